"""A method of someone else's: `incentive.method=my_method:Winners`, with `incentive.args={count: 2}`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.incentive.methods.protocol import RewardMethod


@dataclass(frozen=True)
class Winners(RewardMethod):
    """The best images of each group earn 1 and the others 0, by however much they won.

    Attributes:
        count: how many images of a group win; those that tie with the last of them win as well.
    """

    count: int = 1

    def reward(self, scores: Scores) -> Tensor:
        """1 for winners, 0 for the others, float32 [P, G]; NaN stays NaN."""
        finite_PG = scores.reward_PG.isfinite()
        ranked_PG = torch.where(finite_PG, scores.reward_PG, -torch.inf)
        last_P1 = ranked_PG.topk(self.count, dim=1).values[:, -1:]
        return torch.where(finite_PG, (ranked_PG >= last_P1).float(), torch.nan)
