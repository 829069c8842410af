"""What protocol 2 compares beside the two integrals: diversity at one level of reward, and many comparisons at once.

The level is absolute: a share of the reward that the baseline gains, on its front of points averaged over seeds and
prompts. Whoever does not come so far has not reached it, which counts as the worst that can be (`docs/benchmark.md`).
Shapes as in `drift_pl.functional.intervals`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from drift_pl.functional.fronts import Array, NoOverlap, nondominated
from drift_pl.functional.intervals import Interval, PairStatistic, paired_gain_interval

SHARE = 0.75
"""Of the baseline's gain in reward."""
MAX_UNREACHED = 0.025
"""Of the resamplings: with more, the lower end of a 95 % interval is not reached either."""
LENGTH_TOLERANCE = 0.002
WORST = -1 + 1e-12
"""A gain that stands for a level that is not reached: below any that is."""


@dataclass(frozen=True)
class LevelGain:
    """The gain in diversity at a level of reward.

    Attributes:
        level: the reward.
        value: D_method / D_baseline - 1 of the points averaged over seeds; None: not reached.
        low: None: not reached, or no interval.
        high: None without an interval.
        reason: why `value` or `low` is None; None if neither is.
    """

    level: float
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def diversity_at(points_K2: Array, reward: float) -> Array:
    """Diversity of the fronts of points [..., K, 2] at a reward, [...]; NaN where it is not reached.

    A front that begins above the reward has its first point's diversity there: the excess may be given away.
    """
    reward_N, diversity_N = nondominated(points_K2)
    left_N, right_N = reward_N[..., :-1], reward_N[..., 1:]
    within_N = (left_N <= reward) & (reward <= right_N) & (left_N < right_N)
    share_N = (reward - left_N) / np.where(left_N < right_N, right_N - left_N, 1)
    between_N = diversity_N[..., :-1] + share_N * np.diff(diversity_N)
    found = np.where(within_N, between_N, -np.inf).max(-1, initial=-np.inf)
    found = np.where(reward <= reward_N[..., 0], diversity_N[..., 0], found)
    return np.where(np.isfinite(found), found, np.nan)


def gains_at(reward: float) -> PairStatistic:
    """The statistic D_method / D_baseline - 1 at a reward, for `paired_gain_interval`; NaN where not reached."""

    def gains(baseline_K2: Array, method_M2: Array) -> Array:
        diversity = diversity_at(baseline_K2, reward)
        return diversity_at(method_M2, reward) / np.where(diversity > 0, diversity, np.nan) - 1

    return gains


def level_of(baseline_SKP2: Array, share: float = SHARE) -> float:
    """R_0 + share (highest R - R_0) of the baseline's points, averaged over prompts and then over seeds.

    Raises:
        NoOverlap: the baseline gains no reward.
    """
    reward_K = np.nanmean(baseline_SKP2[..., 0], 2).mean(0)
    gained = float(reward_K.max() - reward_K[0])
    if not gained > 0:
        raise NoOverlap("the baseline gains no reward, so that there is no share of it")
    return float(reward_K[0]) + share * gained


def level_gain(
    baseline_SKP2: Array,
    method_SMP2: Array,
    seed: int,
    replicates: int = 1000,
    level: float = 0.95,
    share: float = SHARE,
) -> LevelGain:
    """The gain in diversity at a share of what the baseline gains in reward.

    Args:
        seed: of the resampling of prompts.

    Raises:
        NoOverlap: the baseline gains no reward.
    """
    reward = level_of(baseline_SKP2, share)
    gains, unreached = gains_at(reward), 0.0

    def statistic(baseline_K2: Array, method_M2: Array) -> Array:
        nonlocal unreached
        found = gains(baseline_K2, method_M2)
        if found.ndim == 1:  # averages over seeds, the measured one first: resamplings that do not reach it are worst
            unreached = float(np.isnan(found[1:]).mean())
            found[1:] = np.where(np.isnan(found[1:]), WORST, found[1:])
        return found

    generator = np.random.default_rng(seed)
    try:
        interval = paired_gain_interval(
            statistic, baseline_SKP2, method_SMP2, generator=generator, replicates=replicates, level=level
        )
    except NoOverlap:
        return LevelGain(reward, None, reason="not reached")
    return _with_reasons(reward, interval, unreached)


def _with_reasons(reward: float, interval: Interval, unreached: float) -> LevelGain:
    seeds = sum(value is None for value in interval.per_seed)
    if seeds:
        reason = f"not reached by {seeds} of {interval.seeds} seeds"
    elif unreached > MAX_UNREACHED:
        reason = f"not reached in {100 * unreached:.0f} % of the resamplings"
    else:
        return LevelGain(reward, interval.mean, interval.low, interval.high, interval.reason)
    return LevelGain(reward, interval.mean, None, interval.high, reason)


def p_value(low_at: Callable[[float], float | None]) -> float:
    """The two-sided p-value of "no gain": 1 - c for the largest level c whose interval lies above zero.

    Args:
        low_at: lower end of the interval of a level in (0, 1), falling with it; None: not reached, as if below zero.

    Returns:
        In [0.001, 1]: what a thousand resamplings can tell apart.
    """
    below, above = 0.0, 0.999
    for _ in range(12):
        middle = (below + above) / 2
        low = low_at(middle)
        below, above = (middle, above) if low is not None and low > 0 else (below, middle)
    return max(0.001, 1 - below)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given (Holm 1979): the k-th smallest of m times m - k + 1, made monotone."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def one_length(iterations: Sequence[int], reward_SK: Array, tolerance: float = LENGTH_TOLERANCE) -> int:
    """The first look at which the baseline's mean reward over seeds is within the tolerance of its best.

    Args:
        iterations: of the K looks, ascending.
        reward_SK: per seed and look.
    """
    reward_K = np.asarray(reward_SK, dtype=np.float64).mean(0)
    return next(at for at, reward in zip(iterations, reward_K, strict=True) if reward >= reward_K.max() - tolerance)
