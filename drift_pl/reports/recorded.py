"""Recorded figures of plain baselines, shown beside runs that had the same budget and were measured alike. No torch.

`recorded.json` is made by `benchmarks/record_baseline.py`; tests tie it to the experiments that it is about.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from drift_pl.core.errors import UserError
from drift_pl.core.json_files import read_json
from drift_pl.evaluation.protocol import Protocol, Training, first_difference
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.record_file import default_file, read_evaluation

FORMAT, VERSION = "drift_pl.recorded", 1
FILE = "recorded.json"


@dataclass(frozen=True)
class Recorded:
    """A baseline's figures.

    Attributes:
        name: for readers, e.g. `plain Flow-GRPO`.
        experiment, config_hash: what was run.
        seeds: training seeds, in the order of `per_seed`.
        training, protocol: budget and measurement; see `matches`.
        base: measure -> value of the base model on the test prompts.
        per_seed: the same of each fine-tuned model.
        looks: of the first seed on the tuning prompts, `iteration` and measures, along training.
        looks_protocol: how these were measured.
    """

    name: str
    experiment: str
    config_hash: str
    seeds: list[int]
    training: Training
    protocol: Protocol
    base: dict[str, float]
    per_seed: list[dict[str, float]]
    looks: list[dict[str, float]]
    looks_protocol: Protocol

    @property
    def tuned(self) -> dict[str, float]:
        """Means over the training seeds."""
        first = self.per_seed[0]
        return {name: sum(values[name] for values in self.per_seed) / len(self.per_seed) for name in first}

    @property
    def source(self) -> str:
        seeds = f"mean of {len(self.seeds)} seeds" if len(self.seeds) > 1 else f"seed {self.seeds[0]}"
        return f"recorded figures of experiment={self.experiment} at this budget, {seeds}; not measured by this run"

    def matches(self, record: Evaluation) -> bool:
        """Whether a run on the test prompts had the same budget, prompts and measurement, and is not this one."""
        same = record.training == self.training and first_difference(record.protocol, self.protocol) is None
        return same and record.config_hash != self.config_hash

    def looks_match(self, record: Evaluation) -> bool:
        return first_difference(record.protocol, self.looks_protocol) is None


@cache
def all_recorded() -> tuple[Recorded, ...]:
    with resources.as_file(resources.files("drift_pl.reports").joinpath(FILE)) as path:
        content = read_json(path)
    assert (content["format"], content["version"]) == (FORMAT, VERSION)
    return tuple(Recorded(**each) for each in content["baselines"])


def baseline_of(record: Evaluation | None) -> Recorded | None:
    """The recorded baseline of a run's test record; None if there is none at its budget."""
    return next((each for each in all_recorded() if record is not None and each.matches(record)), None)


def baseline_of_run(run_dir: Path) -> Recorded | None:
    """`baseline_of` of a run's folder; None as well if its record cannot be read."""
    try:
        return baseline_of(read_evaluation(default_file(run_dir)))
    except UserError:
        return None


def relative_change(base: float | None, tuned: float | None) -> float | None:
    """0.02 for 2 % more than the base's; None where it is undefined."""
    return (tuned - base) / abs(base) if base and tuned is not None else None
