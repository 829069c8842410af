"""What `python -m drift_pl.report` shows is the finished run, of the base model that all began with."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from made_up_evaluations import make_point
from test_report import make_run, write_record

from drift_pl.report import main


def change_summary(folder: Path, **values: Any) -> Path:
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


@pytest.mark.parametrize(
    ("point", "says"), [(make_point(10, 0.5), "iteration 10"), ({"lora_scale": 0.1}, "LoRA scale")]
)
def test_a_record_without_the_finished_run_is_not_shown_for_it(
    point: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """`evaluate fresh=true` of an earlier checkpoint, or of a weaker adapter, leaves nothing else in the record.

    Catches in reports/finished_run.py: the last point that there is shown as the finished run's.
    """
    folder = change_summary(make_run(tmp_path / "run", "drift", 0, 0.6), iterations=20)
    assert main([str(folder), f"out={tmp_path / 'out'}"]) == 0
    write_record(folder / "evaluation" / "test.json", [make_point(0, 0.5), make_point(20, 0.6) | point])
    assert main([str(folder), f"out={tmp_path / 'other'}"]) == 2
    line = capsys.readouterr().err
    assert says in line
    assert (
        f"not the finished run, iteration 20: measure that too, python -m drift_pl.evaluate ckpt_path={folder}" in line
    )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["tuned", "iteration-000020-scale0.5"])
def test_a_run_that_is_evaluated_at_its_own_scale_is_shown(name: str, tmp_path: Path) -> None:
    """Catches in reports/finished_run.py: `sampler.eval_lora_scale` of the run taken for one of `evaluate`."""
    folder = change_summary(make_run(tmp_path / "run", "drift", 0, 0.6), iterations=20)
    (folder / "config.yaml").write_text("base: shapes_div\nsampler: {eval_lora_scale: 0.5}\n")
    tuned = make_point(20, 0.6) | {"name": name, "lora_scale": 0.5}
    write_record(folder / "evaluation" / "test.json", [make_point(0, 0.5), tuned])
    points = folder / "evaluation" / "test" / "points"
    (points / "tuned.npz").rename(points / f"{name}.npz")
    assert main([str(folder), f"out={tmp_path / 'out'}"]) == 0


def test_runs_that_began_with_other_weights_are_not_averaged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Weights at one path may have changed between two runs.

    Catches in reports/curves.py: the mean of two base models; a value that one run lacks taken for a difference.
    """
    runs = [make_run(tmp_path / str(seed), "drift", seed, 0.6) for seed in (0, 1)]
    change_summary(runs[1], base={"reward": 0.5, "pairwise_distance": None})
    assert main([*map(str, runs), f"out={tmp_path / 'out'}"]) == 0
    change_summary(runs[1], base={"reward": 0.501, "pairwise_distance": 0.25})
    assert main([*map(str, runs), f"out={tmp_path / 'other'}"]) == 2
    assert "have other base models: the base model's reward is 0.501 and 0.5; report them" in capsys.readouterr().err


def test_a_dollar_is_no_formula(tmp_path: Path) -> None:
    """Catches in reports/curves.py: matplotlib reads names as formulas, and three files of four are written."""
    runs = [make_run(tmp_path / str(seed), "a$b\\frac$", seed, 0.6) for seed in (0, 1)]
    assert main([*map(str, runs), f"out={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out" / "report.png").is_file()


@pytest.mark.parametrize("seconds", [float("inf"), "12", {}, -5, True])
def test_damaged_seconds_are_named(seconds: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Catches in reports/summaries.py: a key that the page computes with and nobody checks."""
    folder = change_summary(make_run(tmp_path / "run", "drift", 0, 0.6), seconds=seconds)
    assert main([str(folder), f"out={tmp_path / 'out'}"]) == 2
    assert f"summary.json is damaged: seconds is {seconds!r}" in capsys.readouterr().err


def test_a_link_to_a_run_is_that_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Catches in reports/run_list.py: `latest` beside the run that it leads to counts twice."""
    runs = [make_run(tmp_path / "runs" / f"run{seed}", "drift", seed, 0.6) for seed in (0, 1)]
    for folder in runs:
        (folder / "config.yaml").write_text("experiment: shapes_div\n")
    (tmp_path / "runs" / "latest").symlink_to(runs[1])
    assert main([str(tmp_path / "runs"), str(tmp_path / "runs" / "latest"), f"out={tmp_path / 'out'}"]) == 0
    assert "| `drift` | 2 | 0.600 +- 0.000 |" in capsys.readouterr().out


def test_a_folder_that_may_not_be_read_hides_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in reports/run_list.py: one private folder among the runs, and none is listed."""
    run = make_run(tmp_path / "runs" / "run", "drift", 0, 0.6)
    (run / "config.yaml").write_text("experiment: shapes_div\n")
    secret = tmp_path / "runs" / "secret"
    secret.mkdir()
    scandir = os.scandir

    def refuses(folder: Path) -> Any:
        if folder == secret:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr("drift_pl.reports.run_list.os.scandir", refuses)
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}"]) == 0
    captured = capsys.readouterr()
    assert "| `drift` | 1 |" in captured.out
    assert f"left out, as it may not be read: {secret}" in captured.err
