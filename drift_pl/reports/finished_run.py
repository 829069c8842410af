"""A finished run as its folder holds it: summary, curve along training, pictures, record. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drift_pl.config.loading import build_config
from drift_pl.config.own_run import CONFIG
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.json_files import read_json
from drift_pl.evaluation.arrays import read_grid
from drift_pl.evaluation.record import EVALUATE, TUNED, Evaluation
from drift_pl.evaluation.record_file import read_evaluation
from drift_pl.reports.summaries import read_summary


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        history: iteration and means of each point along training.
        grids: pictures of `base` and `tuned`, uint8 [P, S, 3, H, W].
        record: evaluation/test.json; None of a run of version 0.1.
        config: None if config.yaml cannot be read.
    """

    folder: Path
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    grids: dict[str, np.ndarray]
    record: Evaluation | None = None
    config: Config | None = None

    @property
    def experiment(self) -> str:
        return self.summary["experiment"]


def read_run(folder: Path) -> FinishedRun:
    """Reads what `fit` wrote; version 0.1 had a `history.json`, and the arrays one folder higher.

    Raises:
        UserError: the folder is not that of a finished run.
    """
    arrays, tuned = folder / "evaluation", "tuned"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folders of runs, e.g. runs/shapes_*")
    summary = read_summary(folder)
    old, test, tuning = (arrays / f"{name}.json" for name in ("history", "test", "tuning"))
    history = _old_history(old) if old.is_file() else []
    if tuning.is_file():
        history += history_of(read_evaluation(tuning))
    record, config = read_evaluation(test) if test.is_file() else None, _config(folder / CONFIG)
    if record is not None and record.tuned.weights != "base":
        _refuse_earlier(record, summary, config, folder)
        arrays, tuned = record.folder, record.tuned.name
    files = {"base": arrays / "base.npz", "tuned": arrays / f"{tuned}.npz"}
    remedy = f"make it with {EVALUATE}{folder} fresh=true"
    for file in files.values():
        if not file.is_file():
            raise UserError(f"{file}: no such file; {remedy}")
    grids = {which: read_grid(file, remedy) for which, file in files.items()}
    return FinishedRun(folder, summary, history, grids, record, config)


def _refuse_earlier(record: Evaluation, summary: dict[str, Any], config: Config | None, folder: Path) -> None:
    """`evaluate fresh=true` may have measured nothing but earlier checkpoints, or a weaker adapter than the run's own.

    Raises:
        UserError: the record does not hold the finished run.
    """
    point, iterations = record.tuned, summary.get("iterations", record.tuned.iteration)
    own = (config.sampler.eval_lora_scale, config.sampler.eval_importance_power) if config else (1, None)
    if point.name != TUNED and (point.iteration, point.lora_scale, point.importance_power) != (iterations, *own):
        raise UserError(
            f"{record.path} holds {point.title()} and not the finished run, iteration {iterations}: measure that too, "
            f"{EVALUATE}{folder}"
        )


def _config(file: Path) -> Config | None:
    try:
        return build_config([("experiment", str(file))]) if file.is_file() else None
    except UserError:
        return None


def _old_history(file: Path) -> list[dict[str, Any]]:
    """What version 0.1 wrote along training."""
    try:
        history = read_json(file)["history"]
        return [{name: float(value) for name, value in entry.items()} for entry in history]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{file} is damaged: remove it, and the report has no curve of this run") from error


def history_of(record: Evaluation) -> list[dict[str, Any]]:
    """Means of the points sampled like the first; `evaluate` may have added other scales and powers."""
    points = [point for point in record.points if point.weights != "base"]
    return [
        {"iteration": point.iteration, **{name: value.mean for name, value in point.values.items()}}
        for point in points
        if point.key[1:] == points[0].key[1:]
    ]
