"""Which trial of each method meets the test prompts: the one of the largest hypervolume on the tuning prompts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import NamedTuple

import numpy as np

from drift_pl.functional.intervals import hypervolumes
from drift_pl.reports.comparison import Method
from drift_pl.reports.markdown import code, row

HEAD = ["method", "trial", "seeds", "hypervolume", "reward", "diversity"]


class Run(NamedTuple):
    """One seed of a trial: its hypervolume, and reward and diversity at the last look."""

    volume: float
    reward: float
    diversity: float


@dataclass(frozen=True)
class Trial:
    """A strength of a method.

    Attributes:
        name: METHOD_STRENGTH: what follows the last `_` says what differs between a method's trials.
        runs: seed -> its run.
    """

    name: str
    runs: Mapping[int, Run]

    @property
    def method(self) -> str:
        return self.name.rpartition("_")[0] or self.name

    @property
    def volume(self) -> float:
        """The mean over seeds."""
        return float(np.mean([run.volume for run in self.runs.values()]))


def trial_of(method: Method, measure: str, bound: float) -> Trial:
    """The trial of a comparison's method, whose points on tuning prompts begin with the base model's.

    Args:
        measure: the world's diversity.
        bound: the highest possible reward.
    """
    points_SK2 = np.stack([method.means_SK["reward"], method.means_SK[measure]], axis=-1)
    rows = zip(hypervolumes(points_SK2, bound).tolist(), *points_SK2[:, method.final].T.tolist(), strict=True)
    return Trial(method.name, dict(zip(method.seeds, map(Run._make, rows), strict=True)))


def ranked(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Method -> its trials, the best first.

    A trial of two tiers has the seeds of both; a seed that one has taken over from the other counts once. Trials with
    more seeds come before those with fewer: who goes on to further seeds was decided by the first ones.
    """
    whole: dict[str, dict[int, Run]] = {}
    for trial in trials:
        whole[trial.name] = {**whole.get(trial.name, {}), **trial.runs}
    found: dict[str, list[Trial]] = {}
    for trial in starmap(Trial, whole.items()):
        found.setdefault(trial.method, []).append(trial)
    return {name: sorted(each, key=lambda one: (-len(one.runs), -one.volume)) for name, each in found.items()}


def trial_lines(found: Mapping[str, Sequence[Trial]], world: str, length: str) -> list[str]:
    """A table of a world's trials of one length; hypervolumes and the values of the last look are means over seeds."""
    lines = [
        f"## Trials on tuning prompts, world {world}, {length} iterations",
        "",
        row(HEAD),
        row(["---"] * len(HEAD)),
    ]
    for method, trials in found.items():
        for trial in trials:
            means = np.mean(list(trial.runs.values()), axis=0)
            lines.append(
                row([code(method), code(trial.name), str(len(trial.runs)), *(f"{mean:.4f}" for mean in means)])
            )
    return [*lines, ""]
