"""All that report.html needs of a run, read once. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drift_pl.config.loading import build_config
from drift_pl.config.own_run import CONFIG
from drift_pl.config.paths import same_file_names
from drift_pl.config.schema import Config
from drift_pl.config.yaml_text import format_value
from drift_pl.core.errors import UserError
from drift_pl.evaluation.record import Evaluation, default_file, read_evaluation
from drift_pl.reports.curves import FinishedRun, read_run
from drift_pl.reports.recorded import Recorded, baseline_of
from drift_pl.reports.series import Series, read_series

OWN = ("experiment", "seed", "run_dir", "ckpt_path")
"""Keys that the page shows elsewhere."""


@dataclass(frozen=True)
class Change:
    """A setting of a run that its experiment has not, or has otherwise; values as YAML."""

    key: str
    experiment: str
    run: str


@dataclass(frozen=True)
class RunFacts:
    """A finished run.

    Attributes:
        record, looks: measurements on the test prompts, and along training on the tuning prompts; None if there are
            none, as in runs of version 0.1.
        settings: None if config.yaml cannot be read.
        changes: None if the experiment's file cannot be found.
        recorded: a baseline at the same budget.
    """

    run: FinishedRun
    record: Evaluation | None
    looks: Evaluation | None
    series: Series
    settings: Config | None
    changes: list[Change] | None
    recorded: Recorded | None

    @property
    def name(self) -> str:
        return self.run.folder.resolve().name

    @property
    def label(self) -> str:
        """Short enough for a legend."""
        return f"{Path(self.run.experiment).stem}, seed {self.summary['seed']}"

    @property
    def summary(self) -> dict[str, Any]:
        return self.run.summary

    def value(self, which: str, name: str) -> float | None:
        """A mean on the test prompts, of `base` or `tuned`."""
        return self.summary[which].get(name)


def read_facts(folder: Path) -> RunFacts:
    """
    Raises:
        UserError: the folder is not that of a finished run.
    """
    run = read_run(folder)
    record, looks = (_if_there(file) for file in (default_file(folder), folder / "evaluation" / "tuning.json"))
    settings = _settings(folder / CONFIG)
    changes = None if settings is None else changes_of(settings)
    return RunFacts(run, record, looks, read_series(folder), settings, changes, baseline_of(record))


def changes_of(config: Config) -> list[Change] | None:
    """How a run's settings differ from its experiment's; None if that is not to be found."""
    try:
        plain = build_config([("experiment", config.experiment)])
    except UserError:
        return None
    theirs, ours = (dict(_leaves(each.published.model_dump(), "")) for each in (plain, config))
    longer = {key.rpartition(".0.")[0] for side in (theirs, ours) for key in side}  # lists with entries on one side
    keys = [key for key in dict.fromkeys([*ours, *theirs]) if key not in {*OWN, *longer}]
    return [
        Change(key, *(format_value(side[key]) if key in side else "-" for side in (theirs, ours)))
        for key in keys
        if (key in theirs) != (key in ours) or not same_file_names(theirs[key], ours[key])
    ]


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; entries of lists of sections by their number."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}" if key else name)
    elif isinstance(node, list) and node and isinstance(node[0], dict):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{key}.{number}")
    else:
        yield key, node


def _settings(file: Path) -> Config | None:
    try:
        return build_config([("experiment", str(file))]) if file.is_file() else None
    except UserError:
        return None


def _if_there(file: Path) -> Evaluation | None:
    return read_evaluation(file) if file.is_file() else None
