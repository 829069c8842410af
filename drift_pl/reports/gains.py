"""The gains of one method's front over another's, with intervals and the numbers needed to interpret them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from drift_pl.functional.fronts import (
    Front,
    NoOverlap,
    Reached,
    diversity_ceiling,
    diversity_gain,
    diversity_gain_at,
    hypervolume,
    reward_gain,
    reward_gain_at,
)
from drift_pl.functional.intervals import (
    Interval,
    diversity_gains,
    hypervolumes,
    paired_difference_interval,
    paired_gain_interval,
    reward_gains,
)
from drift_pl.reports.comparison import Method
from drift_pl.reports.results import EqualGain, Estimate, Gains, Level, Rewards

NO_BOUND = "not normalised: give the highest possible reward, reward_bound=X"
SEED = 20260112
"""Of the resampling of prompts: the same files give the same numbers."""


@dataclass(frozen=True)
class Axes:
    """The two measures of a front, and the references of its gains and hypervolume.

    Attributes:
        reward, diversity: names.
        base_reward, base_diversity: the base model's means.
        floor: diversity of a collapsed model.
        reward_bound: the highest possible reward; None: no hypervolumes.
    """

    reward: str
    diversity: str
    base_reward: float
    base_diversity: float
    floor: float
    reward_bound: float | None

    def hypervolume(self, front: Front) -> float | None:
        if self.reward_bound is None:
            return None
        return hypervolume(front, self.base_reward, self.reward_bound, self.base_diversity, self.floor)


class Pair:
    """A method and the baseline on the same axes."""

    def __init__(self, baseline: Method, method: Method, axes: Axes) -> None:
        names = axes.reward, axes.diversity
        self.axes = axes
        self.fronts = baseline.front(*names), method.front(*names)
        self.points = baseline.plane_SKP2(*names), method.plane_SKP2(*names)
        self.final = [float(baseline.means_K[name][baseline.final]) for name in names]

    def gains(self) -> Gains:
        in_diversity = self._in_diversity()
        overlap = in_diversity.low is not None
        ceiling = diversity_ceiling(*self.fronts, self.axes.base_diversity) if overlap else None
        return Gains(in_diversity, ceiling, self._in_reward(), self._in_hypervolume())

    def _in_diversity(self) -> EqualGain:
        reward, (baseline, method) = self.final[0], self.fronts
        at_final = _level(reward, diversity_gain_at(*self.fronts, reward), baseline.reward_N, method.reward_N)
        try:
            gain = diversity_gain(*self.fronts)
        except NoOverlap as reason:
            return EqualGain.none(reason, at_final)
        low, high = (Rewards.of(end, end, self.axes.base_reward) for end in (gain.low, gain.high))
        estimate = self._estimate(gain.value, partial(paired_gain_interval, diversity_gains))
        return EqualGain(estimate, gain.low, gain.high, low, high, at_final)

    def _in_reward(self) -> EqualGain:
        diversity, base_reward = self.final[1], self.axes.base_reward
        baseline, method = self.fronts
        reached = reward_gain_at(*self.fronts, diversity, base_reward)
        at_final = _level(diversity, reached, baseline.diversity_N, method.diversity_N)
        try:
            gain = reward_gain(*self.fronts, base_reward)
        except NoOverlap as reason:
            return EqualGain.none(reason, at_final)
        low, high = (
            Rewards.of(baseline.reward_at(end), method.reward_at(end), base_reward) for end in (gain.low, gain.high)
        )
        estimate = self._estimate(gain.value, partial(paired_gain_interval, reward_gains))
        return EqualGain(estimate, gain.low, gain.high, low, high, at_final)

    def _in_hypervolume(self) -> Estimate:
        bound = self.axes.reward_bound
        baseline, method = map(self.axes.hypervolume, self.fronts)
        if bound is None or baseline is None or method is None:
            return Estimate(None, note=NO_BOUND)
        statistic = partial(hypervolumes, reward_bound=bound, floor=self.axes.floor)
        return self._estimate(method - baseline, partial(paired_difference_interval, statistic))

    def _estimate(self, value: float, interval_of: Callable[..., Interval]) -> Estimate:
        """The value of the means, with its interval or the reason why there is none."""
        try:
            interval = interval_of(*self.points, generator=np.random.default_rng(SEED))
        except NoOverlap as reason:
            return Estimate(value, note=f"no interval: {reason}")
        note = None if interval.reason is None else f"no interval: {interval.reason}"
        return Estimate(value, interval.low, interval.high, note, list(interval.per_seed))


def _level(level: float, reached: Reached, baseline_N: np.ndarray, method_N: np.ndarray) -> Level:
    """The gain at a level, of fronts that span these values."""
    if math.isnan(level):
        return Level(None, None, note="the baseline's final point has no value in every seed")
    of_baseline, of_method = (front_N.min() <= level <= front_N.max() for front_N in (baseline_N, method_N))
    beyond = bool(reached.gain is None and of_baseline and not of_method)
    return Level(level, reached.gain, beyond, reached.at_least, reached.reason)
