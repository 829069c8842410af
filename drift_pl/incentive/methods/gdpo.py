"""GDPO (arXiv 2601.05242): each reward in units of its own spread within the group before they are summed.

`objective.reward_normalisation=per_judge`; see `normalise_per_reward`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.functional.normalisation import normalise_per_reward
from drift_pl.incentive.methods.protocol import RewardMethod


@dataclass(frozen=True)
class Gdpo(RewardMethod):
    """Per-reward normalisation.

    Attributes:
        weights: name of each reward -> its weight in the sum.
    """

    weights: Mapping[str, float]

    def reward(self, scores: Scores) -> Tensor:
        """The sum of normalised rewards, float32 [P, G]; NaN for an image that any of its rewards could not score."""
        finite_PG = scores.reward_PG.isfinite()
        by_reward = dict(scores.by_reward)
        if scores.tasks is not None:  # 0 throughout a group is no spread, and adds nothing
            for name, asked_X in zip(by_reward, scores.tasks.asked_XR.T, strict=True):
                by_reward[name] = torch.where(asked_X[scores.tasks.task_P][:, None], by_reward[name], 0)
        normalised_PG = normalise_per_reward(by_reward, self.weights, finite_PG)
        return torch.where(finite_PG, normalised_PG, torch.nan)
