"""The rows of docs/benchmark.md: every method of a tier of protocol 2 against its baseline."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from levels import LevelGain, level_gain, p_value
from plan import Tier

from drift_pl.functional.fronts import NoOverlap, diversity_ceiling
from drift_pl.functional.intervals import (
    Interval,
    PairStatistic,
    diversity_gains,
    hypervolumes,
    paired_difference_interval,
    paired_gain_interval,
    reward_gains,
)
from drift_pl.reports.comparison import Comparison, Method

SEED = 20260112
"""Of the resampling of prompts: the same results give the same table."""
SHOWN = ("reward", "alignment", "coverage", "pairwise_lpips")


@dataclass(frozen=True)
class Row:
    """A method against one to compare with.

    Attributes:
        method: its name.
        says: the sentence of the plan.
        final: measure -> mean over seeds at the last look.
        diversity, reward: gains of the two integrals; None: the fronts share nothing.
        ceiling: of the gain in diversity, of keeping all of the base model's; None as above.
        at_share: the gain in diversity at 75 % of what the baseline gains in reward.
        hypervolume: minus that of the other.
        minutes: mean of a run and its evaluation, of one process.
        p_values: two-sided, of no gain in diversity and in reward; None against the baseline or without intervals.
    """

    method: str
    says: str
    final: dict[str, float]
    diversity: Interval | None
    reward: Interval | None
    ceiling: float | None
    at_share: LevelGain | None
    hypervolume: Interval | None
    minutes: float
    p_values: tuple[float, float] | None = None


@dataclass(frozen=True)
class Table:
    """A tier.

    Attributes:
        measure: its diversity.
        base: measure -> the base model's mean.
        fronts: method -> (rewards, diversities) of its points averaged over seeds, the base model first.
        rows: against the baseline, which comes first; then against each further method.
        commit: that made it.
    """

    tier: Tier
    seeds: int
    measure: str
    base: dict[str, float]
    fronts: dict[str, tuple[list[float], list[float]]]
    rows: dict[str, list[Row]]
    commit: str


def tabulate(tier: Tier, content: dict[str, Any], comparison: Comparison, jobs: dict[str, dict[str, Any]]) -> Table:
    """All rows of a tier.

    Args:
        content: of plan2.yaml.
        jobs: METHOD-sSEED -> job.json's content.
    """
    frozen = content["frozen"]
    measure, bound = frozen["worlds"][tier.world]["diversity"], frozen["gains"]["reward_bound"]
    methods = {method.name: method for method in comparison.methods}
    shown = dict.fromkeys((*SHOWN, measure, "pairwise_distance"))
    minutes: dict[str, list[float]] = {}
    for key, job in jobs.items():
        minutes.setdefault(key.rpartition("-s")[0], []).append(job["minutes"])
    rows = {
        other: [
            Row(
                method=name,
                says=content["methods"][name],
                final={each: float(method.means_K[each][method.final]) for each in shown if each in method.measures},
                minutes=float(np.mean(minutes[name])),
                **_gains(methods[other], method, measure, bound, tested=other != tier.baseline),
            )
            for name, method in methods.items()
            if other == tier.baseline or name != other
        ]
        for other in (tier.baseline, *tier.against)
    }
    first = methods[tier.baseline]
    return Table(
        tier=tier,
        seeds=len(first.seeds),
        measure=measure,
        base={name: float(first.means_K[name][0]) for name in shown if name in first.measures},
        fronts={
            name: (method.means_K["reward"].tolist(), method.means_K[measure].tolist())
            for name, method in methods.items()
        },
        rows=rows,
        commit=next(iter(jobs.values()))["commit"],
    )


def _gains(baseline: Method, method: Method, measure: str, bound: float, tested: bool) -> dict[str, Any]:
    """The fields of a row that compare; all None for the baseline itself."""
    fields = ("diversity", "reward", "ceiling", "at_share", "hypervolume")
    if baseline is method:
        return dict.fromkeys(fields)
    points = baseline.plane_SKP2("reward", measure), method.plane_SKP2("reward", measure)
    diversity, reward = _gain(diversity_gains, points), _gain(reward_gains, points)
    volume = partial(hypervolumes, reward_bound=bound)
    values = (
        *(diversity, reward, _ceiling(baseline, method, measure), level_gain(*points, SEED)),
        paired_difference_interval(volume, *points, generator=np.random.default_rng(SEED)),
    )
    found = dict(zip(fields, values, strict=True))
    both = [each is not None and each.low is not None for each in (diversity, reward)]
    if tested and all(both):
        found["p_values"] = tuple(p_value(partial(_low, each, points)) for each in (diversity_gains, reward_gains))
    return found


def _low(statistic: PairStatistic, points: tuple[np.ndarray, np.ndarray], level: float) -> float | None:
    """The lower end of an interval of a level."""
    return paired_gain_interval(statistic, *points, generator=np.random.default_rng(SEED), level=level).low


def _gain(statistic: PairStatistic, points: tuple[np.ndarray, np.ndarray]) -> Interval | None:
    try:
        return paired_gain_interval(statistic, *points, generator=np.random.default_rng(SEED))
    except NoOverlap:
        return None


def _ceiling(baseline: Method, method: Method, measure: str) -> float | None:
    fronts = baseline.front("reward", measure), method.front("reward", measure)
    try:
        return diversity_ceiling(*fronts, float(baseline.means_K[measure][0]))
    except NoOverlap:
        return None
