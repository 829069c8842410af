"""A run's health in words: each sign is seen at its bound, and not below it."""

from pathlib import Path

import pytest
from runs_on_a_page import make_finished_run

from drift_pl.reports.facts import read_facts
from drift_pl.reports.health import Finding, findings


def found(folder: Path, about: str) -> list[Finding]:
    return [finding for finding in findings(read_facts(folder)) if finding.about == about]


def states(folder: Path, about: str) -> list[str]:
    return [finding.state for finding in found(folder, about)]


@pytest.mark.parametrize(
    ("distance", "state"), [(0.39, "problem"), (0.41, "look"), (0.63, "look"), (0.65, "fine"), (0.9, "fine")]
)
def test_collapse_is_what_is_left_of_the_base(tmp_path: Path, distance: float, state: str) -> None:
    """The base has 0.8.

    Catches in reports/health.py: the two bounds swapped.
    """
    assert states(make_finished_run(tmp_path / "run", values={"pairwise_distance": distance}), "Collapse") == [state]


@pytest.mark.parametrize(("reward", "state"), [(0.6, "fine"), (0.5, "look"), (0.4, "problem")])
def test_the_reward_rises_or_not(tmp_path: Path, reward: float, state: str) -> None:
    """The same difference on both prompts, whose base has 0.375 and 0.625: an interval without width."""
    folder = make_finished_run(tmp_path / "run", reward=reward)
    _give_per_prompt(folder, "reward", [reward - 0.125, reward + 0.125])
    assert states(folder, "Reward") == [state]


def test_a_held_out_reward_that_falls_is_a_sign_of_hacking(tmp_path: Path) -> None:
    """0.3 before; 0.1 is lower on both prompts by the same share.

    Catches in reports/health.py: sign of the change.
    """
    folder = make_finished_run(tmp_path / "run", values={"heldout_clip_score": 0.1})
    _give_per_prompt(folder, "heldout/clip_score", [0.025, 0.175])
    (finding,) = found(folder, "Reward hacking")
    assert finding.state == "problem"
    assert finding.said.startswith("clip_score, which was not trained on, fell (-66.7%)")
    assert "KL" not in finding.said
    assert "objective.kl_weight" in finding.advice


def test_it_is_none_where_the_reward_fell_too(tmp_path: Path) -> None:
    """Catches in reports/health.py: a run that got worse in all is said to exploit its reward."""
    folder = make_finished_run(tmp_path / "run", reward=0.4, values={"heldout_clip_score": 0.1})
    _give_per_prompt(folder, "heldout/clip_score", [0.025, 0.175])
    (finding,) = found(folder, "Reward hacking")
    assert finding.state == "look"
    assert finding.said.endswith("fell (-66.7%), and the reward did not rise (-20.0%): the images became worse.")


def test_a_held_out_reward_that_stays_is_fine_and_none_is_unknown(tmp_path: Path) -> None:
    assert states(make_finished_run(tmp_path / "a", values={"heldout_clip_score": 0.3}), "Reward hacking") == ["fine"]
    assert states(make_finished_run(tmp_path / "b"), "Reward hacking") == ["unknown"]


@pytest.mark.parametrize(
    ("key", "values", "about", "expected"),
    [
        ("shaping/bonus_group_std", [0.01, 0.02, 0.01], "Diversity bonus", ["look"]),
        ("shaping/bonus_group_std", [0.3, 0.2, 0.1], "Diversity bonus", ["fine"]),
        ("reward/zero_std_groups", [0.0, 0.0, 0.75], "Dead groups", ["look"]),
        ("reward/zero_std_groups", [0.75, 0.0, 0.0], "Dead groups", ["fine"]),
        ("selection/empty_groups", [0.25, 0.0, 0.0], "Dead groups", ["look", "fine"]),
        ("reward/unscored_fraction", [0.0, 0.5, 0.0], "Unscored images", ["problem"]),
        ("reward/unscored_fraction", [0.0, 0.0, 0.0], "Unscored images", []),
        ("policy/latent_rms", [1.0, 1.1, 1.3], "Reward hacking", ["look", "unknown"]),
        ("policy/clipped_high", [0.0, 0.0, 0.9], "Step size", ["look"]),
    ],
)
def test_what_was_logged(tmp_path: Path, key: str, values: list[float], about: str, expected: list[str]) -> None:
    assert states(make_finished_run(tmp_path / "run", logged={key: values}), about) == expected


@pytest.mark.parametrize(("noise", "state"), [(4e-4, "fine"), (6e-4, "look")])
def test_ratio_noise_is_measured_by_the_clip_range(tmp_path: Path, noise: float, state: str) -> None:
    """A tenth of shapes_drift's 5e-3."""
    logged = {"policy/ratio_deviation_first": [0.0, noise, 0.0]}
    folder = make_finished_run(tmp_path / "run", experiment="shapes_drift", logged=logged)
    assert states(folder, "Ratio noise") == [state]


def test_under_a_mask_by_divergence_it_is_measured_by_the_masks_limit(tmp_path: Path) -> None:
    """A tenth of 1e-6. Catches in reports/health.py: the clip range, which has no effect there."""
    logged = {"policy/ratio_deviation_first": [1.0, 1.0, 1.0], "policy/kl_old_first": [0.0, 0.9e-7, 0.0]}
    given = ["objective.loss=flow_dppo", "objective.kl_limit=1e-6"]
    folder = make_finished_run(tmp_path / "run", *given, experiment="shapes_flowgrpo", logged=logged)
    assert states(folder, "Ratio noise") == ["fine"]
    logged["policy/kl_old_first"] = [0.0, 1.1e-7, 0.0]
    folder = make_finished_run(tmp_path / "noisy", *given, experiment="shapes_flowgrpo", logged=logged)
    assert states(folder, "Ratio noise") == ["look"]


def test_a_bonus_that_is_off_is_no_fault(tmp_path: Path) -> None:
    (finding,) = found(make_finished_run(tmp_path / "run", experiment="shapes_flowgrpo"), "Diversity bonus")
    assert (finding.state, finding.said) == ("fine", "The shaping lever is off.")


def test_what_was_not_logged_is_said(tmp_path: Path) -> None:
    folder = make_finished_run(tmp_path / "run")
    (folder / "csv" / "metrics.csv").unlink()
    assert states(folder, "Metrics") == ["unknown"]
    assert states(folder, "Diversity bonus") == []


def test_problems_come_first(tmp_path: Path) -> None:
    folder = make_finished_run(tmp_path / "run", values={"pairwise_distance": 0.1})
    order = [finding.state for finding in findings(read_facts(folder))]
    assert order == sorted(order, key=["problem", "look", "unknown", "fine"].index)
    assert order[0] == "problem"


def _give_per_prompt(folder: Path, name: str, values: list[float]) -> None:
    """Replaces the tuned model's values, which stand last in the file."""
    file = folder / "evaluation" / "test.json"
    text = file.read_text()
    at = text.rindex(f'"{name}": [')
    file.write_text(text[:at] + f'"{name}": {values}' + text[text.index("]", at) + 1 :])
