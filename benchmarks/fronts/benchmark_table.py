"""The rows of docs/benchmark.md: every method of a tier of protocol 2 against its baseline."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from benchmark_points import joint, means, on_equal_prompts, prompts_with_diversity, strengths
from benchmark_room import Room
from levels import SHARE, LevelGain, level_gain, p_value
from plan import Tier

from drift_pl.core.errors import UserError
from drift_pl.functional.fronts import Array, NoOverlap, diversity_ceiling, pareto_front
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
JOINT = " + "
"""Between the names of methods whose joint front is compared with."""
CPU = "CPU"
"""The device of results that name none: the first tier's."""
HELD_OUT = "heldout/jpeg_compressibility"
SHOWN = ("reward", HELD_OUT, "alignment", "pairwise_lpips")
FURTHER = {
    "pairwise_distance": "distance among all images",
    "vendi": "Vendi score",
    "coverage": "coverage of attributes",
    "styles": "styles, of 5",
}
"""What a table shows beside: measure -> its name."""


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
        at_whole: the same at 100 %, of which nothing is claimed.
        hypervolume: minus that of the other.
        minutes: median of a run and its evaluation, see `timed_on`; None: none of its runs is timed.
        equal_prompts: the gain in diversity over equal prompts, see `on_equal_prompts`; None as `diversity`.
        p_values: two-sided, of no gain in diversity and in reward; None against the baseline or without intervals.
    """

    method: str
    says: str
    final: dict[str, float]
    diversity: Interval | None
    reward: Interval | None
    ceiling: float | None
    at_share: LevelGain | None
    at_whole: LevelGain | None
    hypervolume: Interval | None
    minutes: float | None
    equal_prompts: Interval | None = None
    p_values: tuple[float, float] | None = None


@dataclass(frozen=True)
class Table:
    """A tier.

    Attributes:
        measure: its diversity.
        base: measure -> the base model's mean.
        fronts: method -> (rewards, diversities) of its points averaged over seeds, the base model first.
        rows: against the baseline, which comes first; then against each further method, and against the joint front of
            all KLs of an update, NAME + NAME.
        commit: that made it.
        equal_prompts: how many prompts have a diversity at every look of every method, the mean over seeds.
        over_equal: method -> its diversity over these prompts at the last look; the base model's under "base".
        devices: device -> the seeds that were trained on it.
        timed_on: the device of most of its runs, on which minutes are compared.
        room: of the world, if it has been measured.
        length: iterations of the world's one length; 0 where no checkpoint has it.
        at_length: method -> measure -> mean over seeds there.
    """

    tier: Tier
    seeds: int
    measure: str
    base: dict[str, float]
    fronts: dict[str, tuple[list[float], list[float]]]
    rows: dict[str, list[Row]]
    commit: str
    equal_prompts: float
    over_equal: dict[str, float]
    devices: dict[str, list[int]]
    timed_on: str
    room: Room | None = None
    length: int = 0
    at_length: dict[str, dict[str, float]] = field(default_factory=dict)

    def row_of(self, method: str, other: str) -> Row:
        """A method against another, or against a joint front."""
        return next(row for row in self.rows[other] if row.method == method)

    def kept(self, values: dict[str, float]) -> float:
        """The share of the base model's diversity that is left, of the means of a look."""
        return values[self.measure] / self.base[self.measure]


def tabulate(
    tier: Tier,
    content: dict[str, Any],
    comparison: Comparison,
    jobs: dict[str, dict[str, Any]],
    room: Room | None = None,
) -> Table:
    """All rows of a tier.

    Args:
        content: of plan2.yaml.
        jobs: METHOD-sSEED -> job.json's content.
        room: of the tier's world.

    Raises:
        UserError: the results lack the world's diversity, or have rewards above the plan's bound.
    """
    frozen = content["frozen"]
    measure, bound = frozen["worlds"][tier.world]["diversity"], frozen["gains"]["reward_bound"]
    methods = {method.name: method for method in comparison.methods}
    _refuse_unusable(tier, methods, measure, bound)
    shown = dict.fromkeys((*SHOWN, measure, *FURTHER))
    devices: dict[str, list[int]] = {}
    for key, job in jobs.items():
        devices.setdefault(job.get("device", CPU), []).append(int(key.rpartition("-s")[2]))
    timed_on = max(devices, key=lambda device: (len(devices[device]), device))
    minutes = {name: _minutes_of(name, jobs, timed_on) for name in methods}
    points = {name: method.plane_SKP2("reward", measure) for name, method in methods.items()}
    equal = on_equal_prompts(points)
    others = {name: (name,) for name in (tier.baseline, *tier.against)}
    others |= {JOINT.join(members): members for members in strengths(tier).values() if len(members) > 1}
    rows = {
        other: [
            Row(
                method=name,
                says=content["methods"][name],
                final={each: float(method.means_K[each][method.final]) for each in shown if each in method.measures},
                minutes=minutes[name],
                **_gains(points, equal, members, name, bound, tested=other != tier.baseline),
            )
            for name, method in methods.items()
            if other == tier.baseline or name not in members
        ]
        for other, members in others.items()
    }
    first = methods[tier.baseline]
    over_equal = {name: _last(method, means(equal[name])[:, 1], measure) for name, method in methods.items()}
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
        equal_prompts=float(prompts_with_diversity(equal[tier.baseline]).mean()),
        over_equal={"base": float(means(equal[tier.baseline])[0, 1]), **over_equal},
        devices={device: sorted({*seeds}) for device, seeds in devices.items()},
        timed_on=timed_on,
        room=room,
        **_at_length(methods, frozen["length"]["iterations"][tier.world], (*SHOWN, measure)),
    )


def _minutes_of(method: str, jobs: dict[str, dict[str, Any]], device: str) -> float | None:
    """The median of a method's runs on a device; minutes of a run that was resumed are too few, and do not count."""
    runs = [job for key, job in jobs.items() if key.rpartition("-s")[0] == method]
    minutes = [job["minutes"] for job in runs if job.get("device", CPU) == device and not job.get("resumed")]
    return float(np.median(minutes)) if minutes else None


def _at_length(methods: dict[str, Method], length: int | None, shown: tuple[str, ...]) -> dict[str, Any]:
    """The fields `length` and `at_length`, of the methods that have a checkpoint there."""
    found = {}
    for name, method in methods.items():
        for index, point in enumerate(method.points):
            if point.iteration == length and index != method.final:
                found[name] = {each: float(method.means_K[each][index]) for each in shown if each in method.measures}
    return {"length": length, "at_length": found} if found else {}


def _refuse_unusable(tier: Tier, methods: dict[str, Method], measure: str, bound: float) -> None:
    """
    Raises:
        UserError: see `tabulate`.
    """
    first = methods[tier.baseline]
    for name in ("reward", measure):
        if name not in first.measures:
            raise UserError(
                f"tier {tier.name}: not all of its results have {name}, which world {tier.world} is compared by: "
                "remove its file to run the tier again"
            )
    for method in methods.values():
        highest = float(np.nanmax(method.means_SK["reward"]))
        if highest > bound:
            raise UserError(
                f"tier {tier.name}: {method.name} has a mean reward of {highest:.6g}, above "
                f"frozen.gains.reward_bound={bound:g}: results of another reward are not compared"
            )


def _last(method: Method, diversity_K: Array, measure: str) -> float:
    """The value at the last look, of those of the looks that have a reward and a diversity; NaN if it has not."""
    usable_K = method.usable_K("reward", measure)
    return float(diversity_K[usable_K[: method.final].sum()]) if usable_K[method.final] else float("nan")


def _gains(
    points: dict[str, Array], equal: dict[str, Array], members: tuple[str, ...], name: str, bound: float, tested: bool
) -> dict[str, Any]:
    """The fields of a row that compare a method with others' joint front; all None for the method itself."""
    fields = ("diversity", "reward", "ceiling", "at_share", "at_whole", "hypervolume")
    if members == (name,):
        return dict.fromkeys(fields)
    pair, equal_pair = ((joint(each, members), each[name]) for each in (points, equal))
    diversity, reward = _gain(diversity_gains, pair), _gain(reward_gains, pair)
    volume = partial(hypervolumes, reward_bound=bound)
    values = (
        *(diversity, reward, _ceiling(*pair), _at_share(*pair, SHARE), _at_share(*pair, 1.0)),
        paired_difference_interval(volume, *pair, generator=np.random.default_rng(SEED)),
    )
    found: dict[str, Any] = dict(zip(fields, values, strict=True))
    found["equal_prompts"] = _gain(diversity_gains, equal_pair)
    both = [each is not None and each.low is not None for each in (diversity, reward)]
    if tested and all(both):
        found["p_values"] = tuple(p_value(partial(_low, each, pair)) for each in (diversity_gains, reward_gains))
    return found


def _low(statistic: PairStatistic, points: tuple[Array, Array], level: float) -> float | None:
    """The lower end of an interval of a level."""
    return paired_gain_interval(statistic, *points, generator=np.random.default_rng(SEED), level=level).low


def _gain(statistic: PairStatistic, points: tuple[Array, Array]) -> Interval | None:
    """None where the fronts share nothing, or no prompt has a diversity at every look."""
    if any(np.isnan(means(each)).any() for each in points):
        return None
    try:
        return paired_gain_interval(statistic, *points, generator=np.random.default_rng(SEED))
    except NoOverlap:
        return None


def _at_share(baseline_SKP2: Array, method_SKP2: Array, share: float) -> LevelGain:
    try:
        return level_gain(baseline_SKP2, method_SKP2, SEED, share=share)
    except NoOverlap:
        return LevelGain(float(means(baseline_SKP2)[0, 0]), None, reason="the other gains no reward")


def _ceiling(baseline_SKP2: Array, method_SKP2: Array) -> float | None:
    fronts = [pareto_front(*means(each).T) for each in (baseline_SKP2, method_SKP2)]
    try:
        return diversity_ceiling(*fronts, float(means(baseline_SKP2)[0, 1]))
    except NoOverlap:
        return None
