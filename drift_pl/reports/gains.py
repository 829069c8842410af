"""What one method's front gains over another's, with all that must stand beside it and the intervals over seeds."""

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
from drift_pl.reports.results import EqualGain, Estimate, Gains, Level, Rewards

NO_BOUND = "not normalised: give the highest reward of the judges, reward_bound=X"
SEED = 20260112
"""Of the resampling of prompts: the same files give the same numbers."""


@dataclass(frozen=True)
class Scale:
    """What gains are measured from: the base model, and the judges' bound.

    Attributes:
        floor: diversity of a model that has collapsed.
        reward_bound: None if nobody said; then there are no hypervolumes.
    """

    base_reward: float
    base_diversity: float
    floor: float
    reward_bound: float | None

    def hypervolume(self, front: Front) -> float | None:
        if self.reward_bound is None:
            return None
        return hypervolume(front, self.base_reward, self.reward_bound, self.base_diversity, self.floor)


@dataclass(frozen=True)
class Pair:
    """Baseline and method, to be compared.

    Attributes:
        baseline, method: fronts of the means over prompts and then seeds.
        baseline_SKP2, method_SMP2: (reward, diversity) per seed, point and prompt, the base model first, the same seeds
            and prompts in both; NaN where a prompt has none.
        final_2: the baseline's final point, mean over seeds; NaN where it has no value.
    """

    baseline: Front
    method: Front
    baseline_SKP2: np.ndarray
    method_SMP2: np.ndarray
    final_2: np.ndarray


def gains(pair: Pair, scale: Scale) -> Gains:
    """Both gains, the ceiling and the difference of hypervolumes."""
    in_diversity = _in_diversity(pair, scale.base_reward)
    overlap = in_diversity.low is not None
    return Gains(
        diversity=in_diversity,
        ceiling=diversity_ceiling(pair.baseline, pair.method, scale.base_diversity) if overlap else None,
        alignment=_in_alignment(pair, scale.base_reward),
        hypervolume=_hypervolume_difference(pair, scale),
    )


def _in_diversity(pair: Pair, base_reward: float) -> EqualGain:
    baseline, method, final = pair.baseline, pair.method, float(pair.final_2[0])
    at_final = _level(final, diversity_gain_at(baseline, method, final), method.reward_N)
    try:
        gain = diversity_gain(baseline, method)
    except NoOverlap as reason:
        return _no_gain(reason, at_final)
    low, high = (_rewards(end, end, base_reward) for end in (gain.low, gain.high))
    estimate = _estimate(gain.value, pair, partial(paired_gain_interval, diversity_gains))
    return EqualGain(estimate, gain.low, gain.high, low, high, at_final)


def _in_alignment(pair: Pair, base_reward: float) -> EqualGain:
    baseline, method, final = pair.baseline, pair.method, float(pair.final_2[1])
    at_final = _level(final, reward_gain_at(baseline, method, final, base_reward), method.diversity_N)
    try:
        gain = reward_gain(baseline, method, base_reward)
    except NoOverlap as reason:
        return _no_gain(reason, at_final)
    ends = (gain.low, gain.high)
    low, high = (_rewards(baseline.reward_at(end), method.reward_at(end), base_reward) for end in ends)
    estimate = _estimate(gain.value, pair, partial(paired_gain_interval, reward_gains))
    return EqualGain(estimate, gain.low, gain.high, low, high, at_final)


def _hypervolume_difference(pair: Pair, scale: Scale) -> Estimate:
    baseline, method = scale.hypervolume(pair.baseline), scale.hypervolume(pair.method)
    if scale.reward_bound is None or baseline is None or method is None:
        return Estimate(None, note=NO_BOUND)
    statistic = partial(hypervolumes, reward_bound=scale.reward_bound, floor=scale.floor)
    return _estimate(method - baseline, pair, partial(paired_difference_interval, statistic))


def _estimate(value: float, pair: Pair, interval_of: Callable[..., Interval]) -> Estimate:
    """The figure of the means, with its interval over seeds or the reason why there is none."""
    try:
        interval = interval_of(pair.baseline_SKP2, pair.method_SMP2, generator=np.random.default_rng(SEED))
    except NoOverlap as reason:
        return Estimate(value, note=f"no interval: {reason}")
    note = None if interval.reason is None else f"no interval: {interval.reason}"
    return Estimate(value, interval.low, interval.high, note, list(interval.per_seed))


def _level(level: float, reached: Reached, method_N: np.ndarray) -> Level:
    if math.isnan(level):
        return Level(None, None, note="the baseline's final point has no value in every seed")
    beyond = reached.gain is None and not method_N.min() <= level <= method_N.max()
    return Level(level, reached.gain, beyond, reached.at_least, reached.reason)


def _no_gain(reason: NoOverlap, at_final: Level) -> EqualGain:
    return EqualGain(Estimate(None, note=str(reason)), None, None, None, None, at_final)


def _rewards(baseline: float, method: float, base_reward: float) -> Rewards:
    return Rewards(baseline, method, baseline - base_reward, method - base_reward)
