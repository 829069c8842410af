"""What two runs of the same settings have in common, wherever and however often either was interrupted."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runs import assert_equal, load_checkpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EVENTS = re.compile(r"events\.out\.tfevents\..*")


def rows(run_dir: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without empty cells and times."""
    with (run_dir / "csv" / "metrics.csv").open(newline="") as file:
        return [
            {name: text for name, text in row.items() if text and not name.startswith("time/")}
            for row in csv.DictReader(file)
        ]


def curves(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """TensorBoard's scalars, steps and values, and the steps of its images; without times."""
    events = EventAccumulator(str(run_dir / "tensorboard"), {"scalars": 0, "images": 0}).Reload()
    scalars = [tag for tag in events.Tags()["scalars"] if not tag.startswith("time/")]
    found = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in scalars}
    return found | {tag: [(event.step, 0.0) for event in events.Images(tag)] for tag in events.Tags()["images"]}


def assert_same_logs(run_dir: Path, whole: Path) -> None:
    assert rows(run_dir) == rows(whole)
    assert curves(run_dir) == curves(whole)


def state(run_dir: Path, name: str = "last.ckpt") -> dict[str, Any]:
    """All of a checkpoint but times and paths."""
    content = load_checkpoint(run_dir / "checkpoints" / name)
    content["callbacks"]["HeldOutEvaluation"].pop("seconds")
    return {
        **content,
        "callbacks": {name: kept for name, kept in content["callbacks"].items() if "Checkpoint" not in name},
    }


def summary_of(run_dir: Path) -> dict[str, Any]:
    """summary.json without its time; it must be strict JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    summary = json.loads((run_dir / "summary.json").read_text(), parse_constant=refuse)
    del summary["seconds"]
    return summary


def files_of(run_dir: Path) -> set[str]:
    """Names of all files and folders of a run, whatever the moment that TensorBoard's events begin."""
    names = (path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*"))
    return {EVENTS.sub("events", name) for name in names}


def assert_same_run(run_dir: Path, whole: Path) -> None:
    """Weights, optimizer, average and counts of every checkpoint, measurements, summary, logs, pictures: all equal.

    And nothing more: no temporary, no lock, nothing of a point that is measured.
    """
    assert not (odd := files_of(run_dir) ^ files_of(whole)), f"in one of them only: {sorted(odd)}"
    for checkpoint in (whole / "checkpoints").iterdir():
        ours, theirs = (_without_epochs(state(folder, checkpoint.name)) for folder in (run_dir, whole))
        assert_equal(ours, theirs, checkpoint.name)
    assert_equal(summary_of(run_dir), summary_of(whole), "summary.json")
    for logs, read in LOGS.items():
        if (whole / logs).exists():
            assert read(run_dir) == read(whole), logs
    for path in (*whole.glob("samples/*"), *whole.glob("inputs/*"), *(whole / "evaluation").rglob("*.*")):
        assert (run_dir / path.relative_to(whole)).read_bytes() == path.read_bytes(), path.relative_to(whole)


def _without_epochs(content: dict[str, Any]) -> dict[str, Any]:
    """Lightning's count, which decides nothing: a part of a run that only evaluates is an epoch to it."""
    del content["epoch"], content["loops"]["fit_loop"]["epoch_progress"]
    return content


LOGS: dict[str, Callable[[Path], Any]] = {"csv": rows, "tensorboard": curves}
