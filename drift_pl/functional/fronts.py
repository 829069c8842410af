"""Reward-diversity fronts and the gain of one over another, in numpy float64. Higher is better on both axes.

A front is the non-dominated points of a method, joined by straight lines; `docs/fronts.md` says why the gains are
defined as they are. Shapes: N points; `...` any number of fronts at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
# A front as a function of one axis: x ascending, and y. Equal neighbouring x are the same point, repeated.
Curve = tuple[Array, Array]

# An interval shorter than this share of its ends counts as a single point, up to rounding.
ROUNDING = 1e-12


class NoOverlap(ValueError):
    """Two fronts share no interval on which the gain is defined; the message gives both ranges."""


@dataclass(frozen=True)
class Gain:
    """One method's gain over another on a common interval.

    Attributes:
        value: 0.43 means 43 % more; -1 or less only where the method's reward falls below the base model's.
        low: lower end of the common interval, on the axis that is held equal.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Reached:
    """The gain at one level, or the reason it is undefined.

    Attributes:
        gain: as `Gain.value`; None if one of the fronts does not include the level.
        reason: why there is no gain, one clause; None if there is one.
        at_least: lower bound of the gain if the method's whole front lies above the level (it reaches the level by
            giving up the excess); else None.
    """

    gain: float | None
    reason: str | None = None
    at_least: float | None = None


@dataclass(frozen=True, eq=False)
class Front:
    """Non-dominated points: `reward_N` strictly ascending, `diversity_N` strictly descending, N >= 1."""

    reward_N: Array
    diversity_N: Array

    def reward_at(self, diversity: float) -> float:
        """Reward on the line through the points; ValueError outside the front's diversities."""
        return _at(_by_diversity(self, 0.0), diversity, "diversity")


def pareto_front(reward_N: ArrayLike, diversity_N: ArrayLike) -> Front:
    """The points that no other point equals or exceeds on both axes; duplicates count once, order is irrelevant.

    Raises:
        ValueError: no points, arrays of unequal length, or values that are not finite.
    """
    points_N2 = np.array([reward_N, diversity_N], dtype=np.float64).T
    if points_N2.ndim != 2 or not points_N2.size:
        raise ValueError("a front needs at least one point, each with a reward and a diversity")
    if not np.isfinite(points_N2).all():
        raise ValueError("a front needs finite rewards and diversities")
    filled_reward_N, filled_diversity_N = nondominated(points_N2)
    first_N = np.append(True, filled_reward_N[1:] > filled_reward_N[:-1])
    return Front(filled_reward_N[first_N], filled_diversity_N[first_N])


def diversity_gain(baseline: Front, method: Front) -> Gain:
    """Diversity gain at equal reward: integral of D_method over the common rewards / integral of D_baseline - 1.

    Raises:
        NoOverlap: the fronts share no interval of rewards, or the baseline has no diversity there.
    """
    return _gain(_by_reward(baseline), _by_reward(method), "reward")


def reward_gain(baseline: Front, method: Front, base_reward: float) -> Gain:
    """Reward gain at equal diversity: integral of R_method - R_0 over the common diversities / the baseline's - 1.

    Args:
        base_reward: R_0, the base model's mean reward; 0 gives the gain in raw reward.

    Raises:
        NoOverlap: the fronts share no interval of diversities, or the baseline's mean reward there does not exceed
            `base_reward`.
    """
    return _gain(_by_diversity(baseline, base_reward), _by_diversity(method, base_reward), "diversity")


def diversity_ceiling(baseline: Front, method: Front, base_diversity: float) -> float:
    """`diversity_gain` of a method that keeps the base model's diversity at every reward.

    Raises:
        NoOverlap: as in `diversity_gain`.
    """
    gain = diversity_gain(baseline, method)
    mean_diversity = float(integral(_by_reward(baseline), gain.low, gain.high)) / (gain.high - gain.low)
    return base_diversity / mean_diversity - 1


def diversity_gain_at(baseline: Front, method: Front, reward: float) -> Reached:
    """D_method / D_baseline - 1 at one reward, such as that of the baseline's final point."""
    return _gain_at(_by_reward(baseline), _by_reward(method), reward, "reward")


def reward_gain_at(baseline: Front, method: Front, diversity: float, base_reward: float) -> Reached:
    """(R_method - R_0) / (R_baseline - R_0) - 1 at one diversity, such as that of the baseline's final point."""
    return _gain_at(_by_diversity(baseline, base_reward), _by_diversity(method, base_reward), diversity, "diversity")


def hypervolume(
    front: Front, base_reward: float, reward_bound: float, base_diversity: float, floor: float = 0.0
) -> float:
    """Area that the points dominate above (base_reward, floor), as a share of the largest possible area.

    The front is a step function here: a point dominates the area below and to the left of it, without interpolation.

    Args:
        base_reward: the base model's mean reward; points below it add nothing.
        reward_bound: the highest possible reward.
        base_diversity: the base model's diversity.
        floor: diversity of a collapsed model: 0 for distances, 1 for Vendi scores.

    Returns:
        At least 0; at most 1 while no point is more diverse than the base model.

    Raises:
        ValueError: `reward_bound` is not above `base_reward` or is below a point of the front, or `base_diversity` is
            not above `floor`.
    """
    if not reward_bound > base_reward or not base_diversity > floor:
        raise ValueError(
            f"nothing to dominate between rewards {base_reward:.6g} and {reward_bound:.6g} and "
            f"diversities {floor:.6g} and {base_diversity:.6g}"
        )
    if front.reward_N[-1] > reward_bound:
        raise ValueError(f"a point's reward, {front.reward_N[-1]:.6g}, is above the bound {reward_bound:.6g}")
    area = dominated_area(front.reward_N, front.diversity_N, base_reward, floor)
    return float(area) / ((reward_bound - base_reward) * (base_diversity - floor))


def nondominated(points_N2: Array) -> Curve:
    """Front of points (reward, diversity), [..., N, 2], each dominated point replaced by the next one on the front.

    Returns:
        Rewards ascending and diversities descending, [..., N], points of the front repeated; NaN where a point is NaN.
    """
    order_N = np.lexsort((points_N2[..., 1], points_N2[..., 0]), axis=-1)
    reward_N, diversity_N = np.moveaxis(np.take_along_axis(points_N2, order_N[..., None], -2), -1, 0)
    best_from_here_N = np.maximum.accumulate(diversity_N[..., ::-1], -1)[..., ::-1]
    best_later_N = np.concatenate([best_from_here_N[..., 1:], np.full_like(best_from_here_N[..., :1], -np.inf)], -1)
    kept_reward_N = np.where(diversity_N <= best_later_N, np.inf, reward_N)
    return np.minimum.accumulate(kept_reward_N[..., ::-1], -1)[..., ::-1], best_from_here_N


def by_diversity(reward_N: Array, diversity_N: Array, base_reward: ArrayLike) -> Curve:
    """Reward above the base model's, over diversity; `base_reward` is one number per front, [...]."""
    return diversity_N[..., ::-1], reward_N[..., ::-1] - np.asarray(base_reward)[..., None]


def common_interval(first: Curve, second: Curve) -> tuple[Array, Array]:
    """Ends of the x interval that two curves share, [...]; both NaN if its length is not positive."""
    low, high = np.maximum(first[0][..., 0], second[0][..., 0]), np.minimum(first[0][..., -1], second[0][..., -1])
    shared = high - low > ROUNDING * np.maximum(abs(low), abs(high))
    return np.where(shared, low, np.nan), np.where(shared, high, np.nan)


def integral(curve: Curve, low: ArrayLike, high: ArrayLike) -> Array:
    """Exact integral of a piecewise linear curve between two x within its range, [...]."""
    (left_N, right_N), (start_N, end_N) = ((axis_N[..., :-1], axis_N[..., 1:]) for axis_N in curve)
    low_N, high_N = (np.clip(np.asarray(end)[..., None], left_N, right_N) for end in (low, high))
    length_N = np.where(right_N > left_N, right_N - left_N, 1)
    middle_N = start_N + (end_N - start_N) * ((low_N + high_N) / 2 - left_N) / length_N
    return ((high_N - low_N) * middle_N).sum(-1)


def gain_ratio(baseline: Curve, method: Curve) -> Array:
    """Integral of the method's y over the common x / that of the baseline - 1, [...]; NaN where undefined."""
    low, high = common_interval(baseline, method)
    denominator = integral(baseline, low, high)
    return integral(method, low, high) / np.where(denominator > 0, denominator, np.nan) - 1


def dominated_area(reward_N: Array, diversity_N: Array, base_reward: ArrayLike, floor: float) -> Array:
    """Area under the steps of a front and above (base_reward, floor), [...]."""
    left = np.asarray(base_reward)[..., None]
    width_N = np.diff(np.maximum(reward_N, left), prepend=left)
    return (width_N * np.maximum(diversity_N - floor, 0)).sum(-1)


def _by_reward(front: Front) -> Curve:
    return front.reward_N, front.diversity_N


def _by_diversity(front: Front, base_reward: float) -> Curve:
    return by_diversity(front.reward_N, front.diversity_N, base_reward)


def _span(curve: Curve) -> str:
    return f"{curve[0][0]:.6g} to {curve[0][-1]:.6g}"


def _at(curve: Curve, x: float, name: str) -> float:
    if not curve[0][0] <= x <= curve[0][-1]:
        raise ValueError(f"{name} {x:.6g} is outside the front, which spans {_span(curve)}")
    return float(np.interp(x, *curve))


def _gain(baseline: Curve, method: Curve, name: str) -> Gain:
    value = float(gain_ratio(baseline, method))
    low, high = (float(end) for end in common_interval(baseline, method))
    spans = f"the baseline's front spans {_span(baseline)}, the method's {_span(method)}"
    if np.isnan(low):
        raise NoOverlap(f"no interval of {name} in common: {spans}")
    if np.isnan(value):
        raise NoOverlap(f"at {name} {low:.6g} to {high:.6g} the baseline has nothing to compare with: {spans}")
    return Gain(value, low, high)


def _gain_at(baseline: Curve, method: Curve, x: float, name: str) -> Reached:
    if not baseline[0][0] <= x <= baseline[0][-1]:
        return Reached(None, f"{name} {x:.6g} is not on the baseline's own front, which spans {_span(baseline)}")
    denominator = _at(baseline, x, name)
    if not denominator > 0:
        return Reached(None, f"at {name} {x:.6g} the baseline has nothing to compare with")
    if x > method[0][-1]:
        return Reached(None, f"the method never reaches {name} {x:.6g}: its front spans {_span(method)}")
    if x < method[0][0]:
        at_least = float(method[1][0]) / denominator - 1
        return Reached(None, f"the method stays above {name} {x:.6g}: its front spans {_span(method)}", at_least)
    return Reached(_at(method, x, name) / denominator - 1)
