"""Confidence intervals of gains, over paired seeds and over prompts shared by all seeds and both methods.

`docs/fronts.md` derives the construction and reports its coverage. All arrays are numpy float64.
Shapes: B bootstrap resamplings of the prompts, S seeds, K and M checkpoints of the baseline and of the method, the
first of which is the base model, P prompts, 2: reward and diversity; `...` any number of fronts.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from drift_pl.functional.fronts import Array, NoOverlap, by_diversity, dominated_area, gain_ratio, nondominated

PairStatistic = Callable[[Array, Array], Array]
PointsStatistic = Callable[[Array], Array]

MIN_SEEDS = 3
# If more than this share of the resamplings has no gain, the percentiles are meaningless.
MAX_UNDEFINED = 0.01
NO_GAIN = "no interval in common, or no reward above the base model's there"


@dataclass(frozen=True)
class Interval:
    """A statistic of the seed-averaged points and its confidence interval.

    Attributes:
        mean: the statistic of the points averaged over prompts and seeds; not necessarily the interval's midpoint.
        low: lower end; None without an interval.
        high: upper end; None without an interval.
        seeds: S.
        per_seed: the statistic of each seed's points, in the order given; None where undefined.
        reason: why there is no interval, one clause; None if there is one.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    per_seed: tuple[float | None, ...]
    reason: str | None = None


def diversity_gains(baseline_K2: Array, method_M2: Array) -> Array:
    """Vectorized `fronts.diversity_gain` of the fronts of points, [...]; NaN where they do not overlap."""
    return gain_ratio(nondominated(baseline_K2), nondominated(method_M2))


def reward_gains(baseline_K2: Array, method_M2: Array) -> Array:
    """Vectorized `fronts.reward_gain`, [...], relative to the baseline's first point; NaN without overlap."""
    base_reward = baseline_K2[..., 0, 0]
    baseline, method = (by_diversity(*nondominated(points), base_reward) for points in (baseline_K2, method_M2))
    return gain_ratio(baseline, method)


def hypervolumes(points_K2: Array, reward_bound: float, floor: float = 0.0) -> Array:
    """Vectorized `fronts.hypervolume`, [...], relative to the first point, the base model."""
    base_reward, base_diversity = points_K2[..., 0, 0], points_K2[..., 0, 1]
    area = dominated_area(*nondominated(points_K2), base_reward, floor)
    return area / ((reward_bound - base_reward) * (base_diversity - floor))


def paired_gain_interval(
    statistic: PairStatistic,
    baseline_SKP2: Array,
    method_SMP2: Array,
    *,
    generator: np.random.Generator,
    replicates: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Interval of a gain such as `diversity_gains`, constructed for log(1 + gain).

    Args:
        statistic: gains of the fronts of points [..., K, 2] and [..., M, 2]; NaN where undefined.
        baseline_SKP2: a value per seed, checkpoint and prompt; NaN where a prompt has none.
        method_SMP2: the same for the method, with the same seeds and prompts in the same order.
        generator: draws the prompts.
        replicates: number of bootstrap resamplings of the prompts.
        level: nominal coverage.

    Raises:
        NoOverlap: the seed-averaged fronts have no gain. (If a single seed has none, `reason` says so.)
        ValueError: the numbers of seeds or prompts differ, or a checkpoint has no value.
    """

    def log_gain(baseline_K2: Array, method_M2: Array) -> Array:
        growth = 1 + statistic(baseline_K2, method_M2)
        return np.log(np.where(growth > 0, growth, np.nan))

    interval = _interval(log_gain, baseline_SKP2, method_SMP2, generator, replicates, level)
    return replace(
        interval,
        mean=math.expm1(interval.mean),
        low=None if interval.low is None else math.expm1(interval.low),
        high=None if interval.high is None else math.expm1(interval.high),
        per_seed=tuple(None if value is None else math.expm1(value) for value in interval.per_seed),
    )


def paired_difference_interval(
    statistic: PointsStatistic,
    baseline_SKP2: Array,
    method_SMP2: Array,
    *,
    generator: np.random.Generator,
    replicates: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Interval of statistic(method) - statistic(baseline), e.g. of hypervolumes; see `paired_gain_interval`."""

    def difference(baseline_K2: Array, method_M2: Array) -> Array:
        return statistic(method_M2) - statistic(baseline_K2)

    return _interval(difference, baseline_SKP2, method_SMP2, generator, replicates, level)


@functools.cache
def t_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t, for any real degrees of freedom >= 1.

    With t = sqrt(degrees) tan(a), the density of the angle a is proportional to cos(a)^(degrees - 1). Newton's method
    from 0 never overshoots, because the integral is concave.
    """
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    node_N, weight_N = np.polynomial.legendre.leggauss(64)
    total = math.sqrt(math.pi) * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2))
    target = (probability - 0.5) * total
    angle = 0.0
    for _ in range(100):
        area = angle / 2 * weight_N @ np.cos(angle * (node_N + 1) / 2) ** (degrees - 1)
        step = (target - area) / math.cos(angle) ** (degrees - 1)
        angle += step
        if step < 1e-14 * angle:
            break
    return math.sqrt(degrees) * math.tan(angle)


def _interval(
    compare: PairStatistic,
    baseline_SKP2: Array,
    method_SMP2: Array,
    generator: np.random.Generator,
    replicates: int,
    level: float,
) -> Interval:
    """Interval on the scale on which effects are additive; `compare` gives the statistics of pairs, [...], or NaN."""
    _check(baseline_SKP2, method_SMP2)
    seeds, _, prompts, _ = baseline_SKP2.shape
    once_1P = np.ones((1, prompts))
    count_BP = np.concatenate([once_1P, generator.multinomial(prompts, once_1P[0] / prompts, size=replicates)])
    baseline_BSK2, method_BSM2 = _means(baseline_SKP2, count_BP), _means(method_SMP2, count_BP)
    centre, *centre_B = compare(baseline_BSK2.mean(1), method_BSM2.mean(1))
    each_S, *each_BS = compare(baseline_BSK2, method_BSM2)
    if np.isnan(centre):
        raise NoOverlap(f"no gain from the fronts of the points averaged over seeds: {NO_GAIN}")
    per_seed = tuple(None if np.isnan(value) else float(value) for value in each_S)
    interval = Interval(float(centre), None, None, seeds, per_seed)
    reason = _why_not(each_S, np.array(centre_B), prompts)
    if reason:
        return replace(interval, reason=reason)
    low, high = _limits(float(centre), np.array(centre_B), each_S, np.array(each_BS), prompts, level)
    return replace(interval, low=low, high=high)


def _check(baseline_SKP2: Array, method_SMP2: Array) -> None:
    for axis, name in ((0, "seeds"), (2, "prompts")):
        if baseline_SKP2.shape[axis] != method_SMP2.shape[axis]:
            raise ValueError(
                f"the baseline has {baseline_SKP2.shape[axis]} {name} and the method {method_SMP2.shape[axis]}"
            )
    for name, values_SKP2 in (("baseline", baseline_SKP2), ("method", method_SMP2)):
        empty = np.argwhere(np.isnan(values_SKP2).all(2))
        if len(empty):
            seed, point, _ = empty[0]
            raise ValueError(f"no prompt has a value at seed {seed}, checkpoint {point} of the {name}")


def _means(values_SKP2: Array, count_BP: Array) -> Array:
    """Means over resampled prompts, [B, S, K, 2]; NaN where none of them has a value."""
    present_SKP2 = ~np.isnan(values_SKP2)
    total_BSK2 = np.tensordot(count_BP, np.where(present_SKP2, values_SKP2, 0), axes=(1, 2))
    number_BSK2 = np.tensordot(count_BP, present_SKP2.astype(np.float64), axes=(1, 2))
    return total_BSK2 / np.where(number_BSK2 > 0, number_BSK2, np.nan)


def _why_not(each_S: Array, centre_B: Array, prompts: int) -> str | None:
    """Why there is no interval; None if there is one."""
    without = [str(seed) for seed in np.flatnonzero(np.isnan(each_S))]
    undefined = np.isnan(centre_B).mean() if len(centre_B) else 1.0
    if len(each_S) < MIN_SEEDS:
        return f"{len(each_S)} of the at least {MIN_SEEDS} seeds that an interval needs"
    if prompts < 2:
        return "one prompt alone says nothing about others"
    if without:
        return f"no gain from the fronts of seed {', '.join(without)} alone (counted from 0): {NO_GAIN}"
    if undefined > MAX_UNDEFINED:
        return f"no gain in {100 * undefined:.0f} % of the resamplings of the prompts"
    return None


def _limits(
    centre: float, centre_B: Array, each_S: Array, each_BS: Array, prompts: int, level: float
) -> tuple[float, float]:
    """Both ends: the intervals over seeds and over prompts, combined in quadrature (Zou and Donner 2008)."""
    seeds = len(each_S)
    upper = (1 + level) / 2
    seed_reach = t_quantile(upper, seeds - 1) * each_S.std(ddof=1) / math.sqrt(seeds)

    centre_B = centre_B[~np.isnan(centre_B)]
    # the interaction of prompts and seeds is already part of the spread over seeds
    own_share = 1 - min(1.0, _interaction(each_BS) / max(centre_B.var(), np.finfo(np.float64).tiny))
    small_sample = t_quantile(upper, prompts - 1) / NormalDist().inv_cdf(upper) * math.sqrt(prompts / (prompts - 1))
    prompt_low, prompt_high = np.quantile(centre_B, [1 - upper, upper])
    factor = small_sample * math.sqrt(own_share)

    # the bias of single seeds, which are noisier, gives that of their average: it shrinks like 1 / seeds
    bias = (each_S.mean() - centre) / (seeds - 1)
    low = centre - math.hypot(seed_reach, factor * max(centre - prompt_low, 0)) - max(bias, 0)
    high = centre + math.hypot(seed_reach, factor * max(prompt_high - centre, 0)) + max(-bias, 0)
    return float(low), float(high)


def _interaction(each_BS: Array) -> float:
    """Variance of the mean over seeds due to the seed-prompt interaction; 0 if it cannot be estimated."""
    complete_BS = each_BS[~np.isnan(each_BS).any(1)]
    if len(complete_BS) < len(each_BS) / 2:
        return 0.0
    seeds = complete_BS.shape[1]
    deviation_BS = complete_BS - complete_BS.mean(1, keepdims=True)
    return float(deviation_BS.var(0).sum() / (seeds - 1) / seeds)
