"""Comparisons in which some prompts, or the base model, have no value, or a level lies off the baseline's front."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_up_evaluations import make_point, write_file

from drift_pl.pareto import main


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_pl.reports.figure.draw", lambda results, folder: None)


def compared(folder: Path, *arguments: str, **methods: list[dict[str, Any]]) -> dict[str, Any]:
    files = [write_file(folder, method, 0, points) for method, points in methods.items()]
    assert main([*map(str, files), f"out={folder / 'out'}", "baseline=plain", *arguments]) == 0
    return json.loads((folder / "out" / "pareto.json").read_text())


def test_means_over_other_prompts_are_named(tmp_path: Path) -> None:
    """A model that breaks the images of a prompt loses it from its mean, and gains by it.

    Catches in reports/compute.py: a gain of 25 % that is nothing but a prompt less, without a word.
    """
    plain = [make_point(0, 1.0), make_point(20, 2.0, pairwise_distance=[0.2, 0.6])]
    other = [make_point(0, 1.0), make_point(20, 2.0, pairwise_distance=[None, 0.6])]
    results = compared(tmp_path, "diversity=[pairwise_distance]", plain=plain, other=other)
    assert [note for note in results["notes"] if "prompts" in note] == [
        "pairwise_distance: a mean is over the prompts that have a value, which are not the same for every point; the "
        "fewest are 1 of 2 (other, iteration 20)"
    ]


def test_prompts_that_have_no_value_anywhere_are_no_difference(tmp_path: Path) -> None:
    """Catches in reports/compute.py: a note where all means are over the same prompts."""
    without = {"pairwise_distance": [None, 0.6]}
    points = [make_point(0, 1.0, **without), make_point(20, 2.0, **without)]
    results = compared(tmp_path, "diversity=[pairwise_distance]", plain=points, other=points)
    assert not [note for note in results["notes"] if "prompts" in note]


@pytest.mark.parametrize("nothing", [0.0, [None, None]])
def test_a_default_is_a_measure_that_the_base_model_has(nothing: Any, tmp_path: Path) -> None:
    """Prompts that leave nothing open have no coverage.

    Catches in reports/question.py: a measure that nobody asked for is refused.
    """
    points = [make_point(0, 1.0, coverage=nothing), make_point(20, 2.0, coverage=nothing)]
    assert compared(tmp_path, plain=points, other=points)["diversity"] == ["pairwise_distance"]


def test_the_alternatives_that_are_named_can_be_taken(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Catches in reports/question.py: the measure that was refused among what to choose instead."""
    points = [make_point(0, 1.0, coverage=[None, None]), make_point(20, 2.0)]
    assert main([str(write_file(tmp_path, "plain", 0, points)), "diversity=[coverage]", f"out={tmp_path / 'out'}"]) == 2
    line = capsys.readouterr().err
    assert "choose another of " in line
    assert "coverage" not in line.partition("choose another of ")[2]


def test_a_level_off_the_baselines_front_is_beyond_nothing(tmp_path: Path) -> None:
    """A baseline that was trained too long ends below the base model in both.

    Catches in reports/gains.py: "> its front" where the method never was.
    """
    plain = [make_point(0, 1.0), make_point(10, 2.0, pairwise_distance=0.6), make_point(20, 0.5, pairwise_distance=0.2)]
    other = [make_point(0, 1.0), make_point(20, 2.0, pairwise_distance=0.7)]
    results = compared(tmp_path, "diversity=[pairwise_distance]", plain=plain, other=other)
    gains = results["methods"][-1]["fronts"]["pairwise_distance"]["gains"]
    for each in ("diversity", "alignment"):
        assert gains[each]["at_final"]["beyond"] is False
        assert "is not on the baseline's own front" in gains[each]["at_final"]["note"]
    assert "> its front" not in (tmp_path / "out" / "pareto.md").read_text()
