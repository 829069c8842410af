"""A method's values as arrays: per prompt, averaged over prompts, averaged over seeds."""

from dataclasses import dataclass

import numpy as np

from drift_pl.functional.fronts import Front, pareto_front
from drift_pl.reports.comparison import Method


@dataclass(frozen=True)
class Values:
    """All values of a method.

    Attributes:
        values_SKP: measure -> per seed, point and prompt.
        means_SK: measure -> mean over the prompts that have a value; NaN where none has.
        means_K: measure -> mean of that over seeds; NaN where a seed has none.
    """

    method: Method
    values_SKP: dict[str, np.ndarray]
    means_SK: dict[str, np.ndarray]
    means_K: dict[str, np.ndarray]

    @classmethod
    def of(cls, method: Method, measures: list[str]) -> "Values":
        values_SKP = {name: method.values_SKP(name) for name in measures}
        means_SK = {name: mean_over_prompts(values) for name, values in values_SKP.items()}
        return cls(method, values_SKP, means_SK, {name: means.mean(axis=0) for name, means in means_SK.items()})

    def usable_K(self, reward: str, diversity: str) -> np.ndarray:
        """Which points have both values in every seed."""
        return np.isfinite(self.means_K[reward] + self.means_K[diversity])

    def front(self, reward: str, diversity: str) -> Front:
        """Front of the means over seeds; a maximum over single seeds would make noise look like gain."""
        usable_K = self.usable_K(reward, diversity)
        return pareto_front(self.means_K[reward][usable_K], self.means_K[diversity][usable_K])

    def plane_SKP2(self, reward: str, diversity: str) -> np.ndarray:
        """Reward and diversity per prompt, of the usable points."""
        pair = [self.values_SKP[name][:, self.usable_K(reward, diversity)] for name in (reward, diversity)]
        return np.stack(pair, axis=-1)


def mean_over_prompts(values_SKP: np.ndarray) -> np.ndarray:
    """[S, K]: mean over the prompts that have a value, NaN where none has."""
    count_SK = np.isfinite(values_SKP).sum(axis=-1)
    return np.where(count_SK > 0, np.nansum(values_SKP, axis=-1) / np.maximum(count_SK, 1), np.nan)


def front_indices(reward_K: np.ndarray, diversity_K: np.ndarray, usable_K: np.ndarray) -> list[int]:
    """Indices of the front's points, by ascending reward; of equal points the first."""
    front = pareto_front(reward_K[usable_K], diversity_K[usable_K])
    pairs = zip(front.reward_N, front.diversity_N, strict=True)
    return [int(np.flatnonzero((reward_K == reward) & (diversity_K == diversity))[0]) for reward, diversity in pairs]
