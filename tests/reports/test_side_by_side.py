"""Runs side by side, on the page and in the figure: each group has its place, and all show the same prompts."""

import re
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from made_up_evaluations import PROTOCOL
from runs_on_a_page import make_finished_run

from drift_pl.reports.curves import _sheet, group_by_experiment
from drift_pl.reports.facts import read_facts
from drift_pl.reports.finished_run import read_run
from drift_pl.reports.run_page import page


def test_runs_with_other_settings_are_no_seeds(tmp_path: Path) -> None:
    """They have their own place in the legend, colour and pictures.

    Catches in reports/run_charts.py: groups by the experiment's name alone.
    Catches in reports/gallery.py: the same.
    """
    runs = [
        make_finished_run(tmp_path / f"{weight}-{seed}", f"objective.kl_weight={weight}", seed=seed)
        for weight in (0.1, 0.2)
        for seed in (0, 1)
    ]
    text = page([read_facts(run) for run in runs])
    shown = Page(text)
    names = [f"shapes_div (objective.kl_weight={weight})" for weight in (0.1, 0.2)]
    for legend in re.findall(r'<ul class="legend">(.*?)</ul>', text):
        assert re.findall(r"</svg>(.*?)</li>", legend)[:2] == [f"{name}, 2 seeds" for name in names]
    assert len(set(re.findall(r"--colour:(#\w+)", text))) == 2
    assert {f"{name}, seed 1" for name in names} <= set(shown.texts)
    assert [tag for tag, _ in shown.tags].count("img") == 3 * 2  # base and a seed of each, of two prompts


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_runs_with_pictures_of_fewer_prompts_show_those_that_all_have(tmp_path: Path, order: tuple[int, int]) -> None:
    """Runs of evaluation.grid_prompts=2 and 1, in both orders.

    Catches in reports/gallery.py: a row for each prompt of the first run.
    """
    runs = [make_finished_run(tmp_path / name, experiment=f"shapes_{name}") for name in ("div", "flowgrpo")]
    keep_pictures_of_one_prompt(runs[1])
    shown = Page(page([read_facts(runs[place]) for place in order]))
    alts = [attributes["alt"] for tag, attributes in shown.tags if tag == "img"]
    assert len(alts) == 3  # base and both runs
    assert all(PROTOCOL["prompts"][0] in alt for alt in alts)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_figure_has_blocks_of_one_height(tmp_path: Path, order: tuple[int, int]) -> None:
    """A prompt of 8 pixels, a frame around it and a gap, three times.

    Catches in reports/curves.py: blocks of as many prompts as each run has, beside names in even steps.
    """
    runs = [make_finished_run(tmp_path / name, experiment=f"shapes_{name}") for name in ("div", "flowgrpo")]
    keep_pictures_of_one_prompt(runs[1])
    groups = group_by_experiment([read_run(runs[place]) for place in order])
    assert _sheet(groups).shape[0] == 3 * (8 + 2 + 6)


def keep_pictures_of_one_prompt(folder: Path) -> None:
    """As evaluation.grid_prompts=1 would."""
    for file in (folder / "evaluation" / "test" / "points").glob("*.npz"):
        np.savez(file, grid=np.load(file)["grid"][:1])
