"""Which trial of each method meets the test prompts: the one of the largest hypervolume on the tuning prompts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drift_pl.functional.intervals import hypervolumes
from drift_pl.reports.comparison import Method
from drift_pl.reports.markdown import code, row

HEAD = ["method", "trial", "seeds", "hypervolume", "reward", "diversity"]


@dataclass(frozen=True)
class Trial:
    """A strength of a method.

    Attributes:
        name: METHOD_STRENGTH: what follows the last `_` says what differs between a method's trials.
        seeds: of its runs.
        volumes: hypervolume of each seed.
        ends: reward and diversity of each seed at the last look.
    """

    name: str
    seeds: tuple[int, ...]
    volumes: tuple[float, ...]
    ends: tuple[tuple[float, float], ...]

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
    ends = tuple((float(reward), float(diversity)) for reward, diversity in points_SK2[:, method.final])
    return Trial(method.name, tuple(method.seeds), tuple(hypervolumes(points_SK2, bound).tolist()), ends)


def ranked(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Method -> its trials, the best first.

    A trial of two tiers has the seeds of both; a seed that one has taken over from the other counts once. Trials with
    more seeds come before those with fewer: who goes on to further seeds was decided by the first ones.
    """
    whole: dict[str, Trial] = {}
    for trial in trials:
        before = whole.get(trial.name, Trial(trial.name, (), (), ()))
        new = [place for place, seed in enumerate(trial.seeds) if seed not in before.seeds]
        seeds, volumes, ends = (
            (*known, *(found[place] for place in new))
            for known, found in (
                (before.seeds, trial.seeds),
                (before.volumes, trial.volumes),
                (before.ends, trial.ends),
            )
        )
        whole[trial.name] = Trial(trial.name, seeds, volumes, ends)
    found: dict[str, list[Trial]] = {}
    for trial in whole.values():
        found.setdefault(trial.method, []).append(trial)
    return {name: sorted(each, key=lambda one: (-len(one.volumes), -one.volume)) for name, each in found.items()}


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
            reward, diversity = np.mean(trial.ends, axis=0)
            cells = [code(method), code(trial.name), str(len(trial.volumes))]
            lines.append(row([*cells, f"{trial.volume:.4f}", f"{reward:.4f}", f"{diversity:.4f}"]))
    return [*lines, ""]
