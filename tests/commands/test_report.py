"""`python -m drift_pl.report` on made-up runs whose figures are known."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up_evaluations import PROTOCOL, TRAINING, make_point

from drift_pl.report import main
from drift_pl.reports.finished_run import read_run


def make_run(folder: Path, experiment: str, seed: int, reward: float, test_prompts: int = 2) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    values = {"reward": reward, "pairwise_distance": 0.25, "vendi": 3.0}
    summary = {"experiment": experiment, "seed": seed, "encoder": "e", "test_prompts": test_prompts, "images": 64}
    summary |= {"images_per_prompt": 4, "base": {**values, "reward": 0.5}, "tuned": values}
    (folder / "summary.json").write_text(json.dumps(summary))
    history = [tuning_point(0, 0.5), tuning_point(10, reward), tuning_point(10, 0.1, lora_scale=0.5)]
    write_record(folder / "evaluation" / "tuning.json", history)
    tuned = make_point(20, reward) | {"name": "tuned"}
    write_record(folder / "evaluation" / "test.json", [make_point(0, 0.5), tuned])
    (folder / "evaluation" / "test" / "points").mkdir(parents=True)
    for grey, which in enumerate(("base", "tuned")):
        np.savez(folder / "evaluation" / "test" / "points" / f"{which}.npz", grid=grid(grey))
    return folder


def grid(grey: int) -> np.ndarray:
    return np.full((2, 3, 3, 8, 8), grey, np.uint8)


def tuning_point(iteration: int, reward: float, **fields: float) -> dict:
    """A point along training; one of the run before training is not of the base model's weights."""
    point = make_point(iteration, reward, **fields) | {"weights": "average", "name": f"{iteration}{fields}"}
    value = {"low": None, "high": None, "prompts": 2}
    return point | {"values": {"reward": value | {"mean": reward}, "pairwise_distance": value | {"mean": 0.25}}}


def write_record(path: Path, points: list[dict]) -> None:
    header = {"format": "drift_pl.evaluation", "version": 1, "method": "m", "experiment": "m", "seed": 0}
    header |= {"config_hash": "0123abcd", "training": TRAINING, "protocol": PROTOCOL}
    path.write_text(json.dumps(header | {"points": points}))


def as_version_0_1(folder: Path) -> Path:
    """The same in the files that `fit` wrote then."""
    evaluation = folder / "evaluation"
    history = [{"iteration": step, "reward": 0.5 + step / 100, "pairwise_distance": 0.25} for step in (0, 10)]
    (evaluation / "history.json").write_text(json.dumps({"history": history}))
    for which in ("base", "tuned"):
        (evaluation / "test" / "points" / f"{which}.npz").rename(evaluation / f"{which}.npz")
    for name in ("test.json", "tuning.json"):
        (evaluation / name).unlink()
    return folder


def test_means_and_spreads_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Rewards 0.6 and 0.8: mean 0.7, standard deviation of two 0.1414."""
    runs = [make_run(tmp_path / str(seed), "drift", seed, reward) for seed, reward in ((0, 0.6), (1, 0.8))]
    runs.append(make_run(tmp_path / "plain", "plain", 0, 0.9))
    assert main([*map(str, runs), f"out={tmp_path / 'out'}"]) == 0
    out = capsys.readouterr().out
    assert "| base | | 0.500 |" in out
    assert "| `drift` | 2 | 0.700 +- 0.141 | 0.250 +- 0.000 |" in out
    assert "| `plain` | 1 | 0.900 | 0.250 | 3.000 |" in out
    assert (tmp_path / "out" / "report.png").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())["drift"]) == 2


@pytest.mark.parametrize("old", [False, True])
def test_history_and_images_are_those_of_the_run(tmp_path: Path, old: bool) -> None:
    """Only points of the run's own scale; version 0.1 had other files."""
    folder = make_run(tmp_path / "run", "drift", 0, 0.6)
    run = read_run(as_version_0_1(folder) if old else folder)
    assert [(entry["iteration"], entry["reward"]) for entry in run.history] == [(0, 0.5), (10, 0.6)]
    assert [entry["pairwise_distance"] for entry in run.history] == [0.25, 0.25]
    for grey, which in enumerate(("base", "tuned")):
        np.testing.assert_array_equal(run.grids[which], grid(grey))


def test_a_record_measured_again_shows_its_last_point(tmp_path: Path) -> None:
    """`evaluate fresh=true` calls it by its checkpoint."""
    folder = make_run(tmp_path / "run", "drift", 0, 0.6)
    write_record(folder / "evaluation" / "test.json", [make_point(0, 0.5), make_point(10, 0.5), make_point(20, 0.6)])
    points = folder / "evaluation" / "test" / "points"
    (points / "tuned.npz").rename(points / "iteration-20.npz")
    np.testing.assert_array_equal(read_run(folder).grids["tuned"], grid(1))


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "drift", 0, 0.6)
    program = f"import sys; from drift_pl.report import main; main(['{folder}', 'out={tmp_path}']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"torch", "lightning", "transformers"}.isdisjoint(done.stdout.rpartition("\n\n")[2].split())
    assert (tmp_path / "report.png").is_file()


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first = make_run(tmp_path / "a", "drift", 0, 0.6)
    cases = {
        "differ in test_prompts (3 and 2)": make_run(tmp_path / "b", "plain", 0, 0.6, test_prompts=3),
        "are both seed 0 of drift": make_run(tmp_path / "c", "drift", 0, 0.6),
        "nothing: no such folder": tmp_path / "nothing",
        "fresh=true": make_run(tmp_path / "d", "other", 0, 0.6),
    }
    (tmp_path / "d" / "evaluation" / "test" / "points" / "base.npz").unlink()
    for message, second in cases.items():
        assert main([str(first), str(second), f"out={tmp_path / 'out'}"]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("outt=x", "unknown key 'outt': did you mean 'out'?"),
        ("--out=x", "unknown flag '--out=x': keys take no dashes, use out=x"),
        ("out=", "out= is empty: use e.g. out=report"),
        ("out=x", "no run folder given: python -m drift_pl.report runs/"),
    ],
)
def test_bad_arguments_are_refused(argument: str, message: str, capsys: pytest.CaptureFixture) -> None:
    assert main([argument]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_held_out_rewards_are_shown_and_what_has_no_value_is_not_a_number(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / str(seed), "drift", seed, 0.6) for seed in (0, 1)]
    for folder, value in zip(folders, (0.5, None), strict=True):
        summary = json.loads((folder / "summary.json").read_text())
        for which in ("base", "tuned"):
            summary[which] |= {"heldout/ocr": 0.25, "vendi": value}
        (folder / "summary.json").write_text(json.dumps(summary))
    assert main([*map(str, folders), f"out={tmp_path / 'out'}"]) == 0
    table = (tmp_path / "out" / "report.md").read_text()
    assert "| | seeds | reward | pairwise_distance | vendi | heldout/ocr |" in table
    assert "| base | | 0.500 | 0.250 | - | 0.250 |" in table
    assert "| `drift` | 2 | 0.600 +- 0.000 | 0.250 +- 0.000 | - | 0.250 +- 0.000 |" in table


def test_unfinished_runs_are_left_out_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Catches in report.py: the notes are missing on the page."""
    done, begun = make_run(tmp_path / "a", "drift", 0, 0.6), tmp_path / "b"
    begun.mkdir()
    (begun / "config.yaml").write_text("experiment: shapes_div\n")
    assert main([str(done), str(begun), f"out={tmp_path / 'out'}"]) == 0
    captured = capsys.readouterr()
    note = f"left out, not finished: {begun}; go on with python -m drift_pl.fit ckpt_path={begun}"
    assert captured.err == f"warning: {note}\n"
    assert note in (tmp_path / "out" / "report.html").read_text()
    assert main([str(begun)]) == 2
    assert capsys.readouterr().err.startswith(f"error: no run is finished: {begun}; go on with ")


def test_one_run_is_reported_in_its_own_folder_and_several_in_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (make_run(tmp_path / str(seed), "drift", seed, 0.6) for seed in (0, 1))
    assert main([str(first)]) == 0
    assert (first / "report.html").is_file()
    assert not (tmp_path / "report").exists()
    assert main([str(first), str(second)]) == 0
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            '<meta name="generator" content="drift_pl report 99">',
            "is a report, of version 99 (this one writes 1): give",
        ),
        ('<meta name="generator" content="drift_pl report 1">', "is a report: give its run's folder"),
        ("something else", "is a file: give the folders of runs"),
    ],
)
def test_a_report_in_place_of_a_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, head: str, message: str
) -> None:
    file = tmp_path / "report.html"
    file.write_text(head)
    assert main([str(file)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_that_holds_runs_stands_for_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The unfinished one is left out, a run that is named twice counts once, and logs of a sweep are no run.

    Catches in report.py: a folder of runs that is taken for a run.
    """
    for seed in (0, 1):
        folder = make_run(tmp_path / "runs" / str(seed), "drift", seed, 0.6)
        (folder / "config.yaml").write_text("experiment: shapes_div\n")
    (tmp_path / "runs" / "begun" / "checkpoints").mkdir(parents=True)
    (tmp_path / "runs" / "begun" / "config.yaml").write_text("experiment: shapes_div\n")
    (tmp_path / "runs" / "sweeps" / "a").mkdir(parents=True)
    assert main([str(tmp_path / "runs"), str(tmp_path / "runs" / "0"), f"out={tmp_path / 'out'}"]) == 0
    captured = capsys.readouterr()
    assert "| `drift` | 2 | 0.600 +- 0.000 |" in captured.out
    assert captured.err.startswith(f"warning: left out, not finished: {tmp_path / 'runs' / 'begun'}; go on with ")


def test_of_what_a_glob_names_only_runs_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """As `report runs/*` after a sweep. A folder that is not there was misspelt, and is refused all the same.

    Catches in report.py: the logs of a sweep refused; left out without a note; a missing folder left out.
    """
    first, second = (make_run(tmp_path / "runs" / str(seed), "drift", seed, 0.6) for seed in (0, 1))
    logs, out = tmp_path / "runs" / "sweeps", f"out={tmp_path / 'out'}"
    (logs / "a").mkdir(parents=True)
    (logs / "a" / "sweep.json").write_text("{}")
    assert main([str(first), str(second), str(logs), out]) == 0
    captured = capsys.readouterr()
    assert "| `drift` | 2 | 0.600 +- 0.000 |" in captured.out
    assert captured.err == f"warning: left out, no run: {logs}\n"
    assert main([str(first), str(tmp_path / "run"), str(logs), out]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'run'}: no such folder")


def test_a_folder_that_is_no_run_is_not_to_be_finished(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Catches in reports/summaries.py: `fit` offered for whatever has no summary."""
    assert main([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path} has no summary.json and is no run: leave it out, or give the folders ")
