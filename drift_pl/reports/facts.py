"""All that report.html needs of a run, read once. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drift_pl.config.loading import build_config
from drift_pl.config.overrides import differences_of
from drift_pl.config.schema import Config, get_value
from drift_pl.config.section import value_text
from drift_pl.core.errors import UserError
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.record_file import default_file, read_evaluation
from drift_pl.reports.finished_run import FinishedRun, read_run
from drift_pl.reports.recorded import Recorded, baseline_of
from drift_pl.reports.series import Series, read_series
from drift_pl.reports.variants import named, variants


@dataclass(frozen=True)
class Change:
    """A setting in which a run differs from its experiment; values as YAML, `-` where that has none."""

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
        changes: None if config.yaml is of another version.
        recorded: a baseline at the same budget.
        variant: what tells it from runs of its experiment with other settings beside which it is shown, see `variants`.
    """

    run: FinishedRun
    record: Evaluation | None
    looks: Evaluation | None
    series: Series
    settings: Config | None
    changes: list[Change] | None
    recorded: Recorded | None
    variant: str = ""

    @property
    def name(self) -> str:
        return self.run.folder.resolve().name

    @property
    def experiment(self) -> str:
        """Its name, without a folder and with the variant."""
        return named(Path(self.run.experiment).stem, self.variant)

    @property
    def group(self) -> str:
        """What it is a seed of."""
        return named(self.run.experiment, self.variant)

    @property
    def label(self) -> str:
        """Short enough for a legend."""
        return f"{self.experiment}, seed {self.summary['seed']}"

    @property
    def summary(self) -> dict[str, Any]:
        return self.run.summary

    def value(self, which: str, name: str) -> float | None:
        """A mean on the test prompts, of `base` or `tuned`."""
        return self.summary[which].get(name)


def read_facts(folder: Path) -> RunFacts:
    """Reads everything that report.html shows of a run: records, logged series, settings and changes.

    Raises:
        UserError: the folder is not that of a finished run.
    """
    run = read_run(folder)
    record, looks = (_if_there(file) for file in (default_file(folder), folder / "evaluation" / "tuning.json"))
    settings = run.config
    changes = None if settings is None else changes_of(folder, settings)
    return RunFacts(run, record, looks, read_series(folder), settings, changes, baseline_of(record))


def side_by_side(runs: Sequence[RunFacts]) -> list[RunFacts]:
    """The runs with the variants that tell them apart."""
    found = variants([run.run for run in runs])
    return [replace(run, variant=variant) for run, variant in zip(runs, found, strict=True)]


def changes_of(folder: Path, settings: Config) -> list[Change] | None:
    """How a run differs from its experiment as it is now; None if that is not to be found."""
    lines = differences_of(folder)
    try:
        plain = build_config([("experiment", settings.experiment)])
    except UserError:
        plain = None
    if any("=" not in line for line in lines):
        return None
    pairs = [line.split("=", 1) for line in lines]
    return [Change(key, _value_of(plain, key), value) for key, value in pairs]


def _value_of(config: Config | None, key: str) -> str:
    try:
        return "-" if config is None else value_text(get_value(config.published, key))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return "-"


def _if_there(file: Path) -> Evaluation | None:
    return read_evaluation(file) if file.is_file() else None
