"""The figure: which lines are drawn, with which numbers."""

from collections import Counter
from pathlib import Path

import numpy as np
from made_up_evaluations import write_study
from matplotlib.colors import to_rgb

from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.reports.comparison import compare
from drift_pl.reports.compute import compute
from drift_pl.reports.figure import COLUMN_IN, TWO_COLUMNS_IN, build_figure, styles
from drift_pl.reports.question import Question
from drift_pl.reports.results import Results


def results_of(folder: Path, methods: tuple[str, ...], *diversity: str) -> Results:
    evaluations = [read_evaluation(path) for path in write_study(folder, methods, seeds=2)]
    return compute(compare(evaluations), Question(diversity=diversity))


def test_each_panel_has_its_lines_and_the_legend_names_all(tmp_path: Path) -> None:
    """Per method and panel: a path, a front, a final point, a thin front for each of two seeds; one star."""
    names = ("_plain$flowgrpo$", "drift")
    results = results_of(tmp_path, names, "pairwise_distance", "coverage")
    figure = build_figure(results)
    assert [panel.get_ylabel() for panel in figure.axes] == ["pairwise distance", "coverage"]
    assert [panel.get_xlabel() for panel in figure.axes] == ["reward", "reward"]
    for panel in figure.axes:
        drawn = Counter(line.get_gid() for line in panel.lines)
        kinds = {"path": 1, "front": 1, "final": 1, "seed front": 2}
        assert drawn == {f"{kind} {name}": count for kind, count in kinds.items() for name in names} | {None: 1}
    (legend,) = figure.legends
    labels = [text.get_text().lstrip("\u200b") for text in legend.get_texts()]
    assert labels == [*names, "base model", "final point", "front of 2 seeds' mean", "front of one seed"]
    assert figure.get_figwidth() == TWO_COLUMNS_IN


def test_four_panels_leave_no_empty_ones(tmp_path: Path) -> None:
    measures = ("pairwise_distance", "coverage", "alignment", "heldout/clip_score")
    figure = build_figure(results_of(tmp_path, ("alone",), *measures))
    assert [panel.get_ylabel() for panel in figure.axes if panel.get_visible()] == [
        "pairwise distance",
        "coverage",
        "alignment",
        "heldout/clip score",
    ]


def test_lines_are_the_numbers(tmp_path: Path) -> None:
    """Means (1, 0.8), (2, 0.6), (3, 0.4), and the second seed's own, f = 1.25 times as far."""
    results = results_of(tmp_path, ("alone",), "pairwise_distance")
    figure = build_figure(results)
    lines = {line.get_gid(): line for line in figure.axes[0].lines}
    wanted = {"path alone": [[1, 0.8], [2, 0.6], [3, 0.4]], "front alone": [[1, 0.8], [2, 0.6], [3, 0.4]]}
    wanted |= {"final alone": [[3, 0.4]], "seed front alone": [[1, 0.8], [2.25, 0.6], [3.5, 0.4]], None: [[1, 0.8]]}
    for gid, xy_N2 in wanted.items():
        np.testing.assert_allclose(lines[gid].get_xydata(), xy_N2, err_msg=str(gid))
    assert lines["front alone"].get_linewidth() > lines["path alone"].get_linewidth()
    assert figure.get_figwidth() == COLUMN_IN


def test_methods_are_distinct_and_the_baseline_is_black(tmp_path: Path) -> None:
    names = tuple(f"method{number}" for number in range(20)) + ("flowgrpo",)
    chosen = styles(results_of(tmp_path, names, "coverage"))
    assert len(set(chosen.values())) == len(names)
    assert to_rgb(chosen["flowgrpo"][0]) == (0, 0, 0)
