"""Multi-axis Max@K (arXiv 2607.14962): an image's reward is its contribution to the group's best in each category.

The objective of a group is the sum over categories of the best score: J = E[ sum_c max_i s_c(x_i) ]. An image's
contribution is what the group would lose without it,

    A_i = sum_c ( max_j s_c(x_j) - max_{j != i} s_c(x_j) ),

which is the gap between first and second for the best image of each category, and 0 for the others. The subtracted
term does not depend on image i, so sum_i A_i grad log p(x_i) is an unbiased estimate of grad J. Only the paper's
abstract is known to us; the leave-one-out form is our derivation.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.incentive.methods.protocol import RewardMethod, check_argument


@dataclass(frozen=True)
class MaxAtK(RewardMethod):
    """Leave-one-out gains over categories in place of the reward.

    Attributes:
        reward_weight: weight of the reward, added to the gains, >= 0; 0 trains on the gains alone.
    """

    reward_weight: float = 0.0

    needs_categories = True

    def __post_init__(self) -> None:
        check_argument("reward_weight", self.reward_weight, 0)

    def reward(self, scores: Scores) -> Tensor:
        """A_i + reward_weight r_i, float32 [P, G]; NaN where an image has no finite reward or category scores."""
        assert scores.category_PGC is not None
        valid_PG = scores.valid_PG & scores.category_PGC.isfinite().all(-1)
        gain_PG = leave_one_out_gains(scores.category_PGC, valid_PG).sum(-1)
        return torch.where(valid_PG, gain_PG + self.reward_weight * scores.reward_PG, torch.nan)


def leave_one_out_gains(category_PGC: Tensor, valid_PG: Tensor) -> Tensor:
    """Each image's contribution to the group's best score: max_j s_c(x_j) - max_{j != i} s_c(x_j) >= 0.

    Args:
        category_PGC: scores; those of invalid images may be NaN.
        valid_PG: bool; the maxima are over valid images.

    Returns:
        float32 [P, G, C]; 0 for invalid images and in groups with fewer than two valid ones.
    """
    clean_PGC = torch.where(valid_PG[..., None], category_PGC, -torch.inf)
    best_P2C = clean_PGC.topk(min(2, clean_PGC.shape[1]), dim=1).values
    first_P1C, second_P1C = best_P2C[:, :1], best_P2C[:, -1:]
    # Tied best images have a gap of 0 each.
    gain_PGC = torch.where(clean_PGC == first_P1C, first_P1C - second_P1C, 0)
    return torch.where(second_P1C.isfinite(), gain_PGC, 0)
