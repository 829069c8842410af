"""The runs below some folders: state, progress, reward and diversity, and what differs from the experiment."""

import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drift_pl.config.experiments import read_mapping
from drift_pl.config.inputs import MARK
from drift_pl.config.overrides import differences_of
from drift_pl.config.own_run import CONFIG
from drift_pl.config.run_folder import SUMMARY
from drift_pl.core import checkpoint_files
from drift_pl.core.errors import UserError
from drift_pl.core.json_files import read_keys
from drift_pl.core.lock import is_held
from drift_pl.core.run_status import read_status, went_on

DEEPEST = 4
"""Folders below a given one in which runs are looked for."""
MEASURES = ("reward", "pairwise_distance")


@dataclass(frozen=True)
class ListedRun:
    """A run as its folder shows it.

    Attributes:
        state: `running`, `finished`, `ended early` (by an alarm, a timer ...), `interrupted` (it can be resumed) or
            `not saved` (it has no checkpoint).
        iteration: iterations that are done; None if nothing says so.
        iterations: length of the run.
        base, tuned: held-out reward and pairwise distance, when the run is finished; None for what has no value.
        training: the same of the last training groups of which the run has told.
        differs: KEY=VALUE of what is not as in its experiment.
    """

    folder: str
    state: str
    experiment: str
    run_name: str | None
    seed: int
    tags: list[str]
    iteration: int | None
    iterations: int | None
    base: dict[str, float | None]
    tuned: dict[str, float | None]
    training: dict[str, float | None]
    stopped: str | None
    differs: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Folders of runs, at or below the given ones, oldest first."""
    found = each_once(path for folder in folders for path in _below(folder, DEEPEST))
    return sorted(found, key=lambda path: ((path / CONFIG).stat().st_mtime, str(path)))


def each_once(folders: Iterable[Path]) -> list[Path]:
    """Folders by the first path of each: a link may lead to one of the others."""
    found: dict[Path, Path] = {}
    for folder in folders:
        found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _below(folder: Path, depth: int) -> Iterator[Path]:
    names: list[str] = []
    try:
        is_run = (folder / CONFIG).is_file() and any(
            (folder / name).exists() for name in (MARK, SUMMARY, checkpoint_files.FOLDER)
        )
        if depth and not is_run:
            with os.scandir(folder) as entries:
                inner = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
            names = [entry.name for entry in sorted(inner, key=lambda entry: (entry.is_symlink(), entry.name))]
    except PermissionError:
        if depth == DEEPEST:
            raise
        print(f"warning: left out, as it may not be read: {folder}", file=sys.stderr)
        return
    if is_run:
        yield folder
    for name in names:
        yield from _below(folder / name, depth - 1)


def read_listed_run(folder: Path) -> ListedRun:
    """What a run's folder shows; a damaged file shows nothing."""
    config, summary, status = _config(folder), read_keys(folder / SUMMARY), read_status(folder)
    section = config.get("trainer")
    trainer = section if isinstance(section, dict) else {}
    iterations, done = _number(trainer.get("iterations")), _number(summary.get("iterations"))
    if done is not None and went_on(folder, done):
        summary, done = {}, None
    state = _state(folder, summary, done, iterations)
    if state not in ("finished", "ended early"):
        summary, done = {}, _iterations_done(folder, status)
    training = {name: _value(status.get(name)) for name in MEASURES if name in status}
    stopped, tags, name = summary.get("stopped"), config.get("tags"), config.get("run_name")
    return ListedRun(
        folder=str(folder),
        state=state,
        experiment=Path(str(config.get("experiment", ""))).stem,
        run_name=None if name is None else str(name),
        seed=_number(config.get("seed")) or 0,
        tags=[str(tag) for tag in tags] if isinstance(tags, list) else [],
        iteration=done,
        iterations=iterations,
        base=_measured(summary, "base"),
        tuned=_measured(summary, "tuned"),
        training=training,
        stopped=None if stopped is None else str(stopped),
        differs=differences_of(folder),
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        return read_mapping(folder / CONFIG)
    except UserError:
        return {}


def _state(folder: Path, summary: dict[str, Any], done: int | None, iterations: int | None) -> str:
    if is_held(folder):
        return "running"
    if summary and "stopped" in summary:
        return "ended early"
    if done is not None and (iterations is None or done >= iterations):
        return "finished"
    return "interrupted" if checkpoint_files.newest(folder) else "not saved"


def _iterations_done(folder: Path, status: dict[str, Any]) -> int | None:
    """Of a run that has not ended; its last checkpoint may be of an earlier iteration."""
    numbers = map(checkpoint_files.number_of, checkpoint_files.numbered(folder / checkpoint_files.FOLDER))
    known = [_number(status.get("iteration")), *numbers]
    return max((number for number in known if number is not None), default=None)


def _measured(summary: dict[str, Any], which: str) -> dict[str, float | None]:
    values = summary.get(which)
    return {name: _value(values.get(name)) for name in MEASURES} if isinstance(values, dict) else {}


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _value(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None
