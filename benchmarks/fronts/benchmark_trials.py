"""Which trial of each method meets the test prompts: the one of the largest hypervolume on the tuning prompts."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from drift_pl.functional.intervals import hypervolumes
from drift_pl.reports.comparison import Method


@dataclass(frozen=True)
class Trial:
    """A strength of a method.

    Attributes:
        name: METHOD_STRENGTH: what follows the last `_` says what differs between a method's trials.
        volumes: hypervolume of each seed.
    """

    name: str
    volumes: tuple[float, ...]

    @property
    def method(self) -> str:
        return self.name.rpartition("_")[0] or self.name

    @property
    def volume(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.volumes))


def trial_of(method: Method, measure: str, bound: float) -> Trial:
    """The trial of a comparison's method, whose points on tuning prompts begin with the base model's.

    Args:
        measure: the world's diversity.
        bound: the highest possible reward.
    """
    points_SK2 = np.stack([method.means_SK["reward"], method.means_SK[measure]], axis=-1)
    return Trial(method.name, tuple(hypervolumes(points_SK2, bound).tolist()))


def ranked(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Method -> its trials, the best first.

    A trial of two tiers has the seeds of both. Trials with more seeds come before those with fewer: who goes on to
    further seeds was decided by the first ones.
    """
    volumes: dict[str, tuple[float, ...]] = {}
    for trial in trials:
        volumes[trial.name] = volumes.get(trial.name, ()) + trial.volumes
    found: dict[str, list[Trial]] = {}
    for trial in (Trial(name, each) for name, each in volumes.items()):
        found.setdefault(trial.method, []).append(trial)
    return {name: sorted(each, key=lambda one: (-len(one.volumes), -one.volume)) for name, each in found.items()}
