"""Lever 3, optimisation: potential-based reward shaping with intra-group diversity (DRIFT, arXiv 2601.12401).

The potential Phi of a final image is its diversity d^ within its group, and 0 at the start of the rollout. The shaping
reward gamma Phi(s') - Phi(s) (Ng, Harada and Russell 1999), discounted and summed over T steps, telescopes to
gamma^T d^: a bonus on the return of each image.

What it does and does not do. The potential of the last state is not zero, so this is *not* the policy-invariant
shaping of Ng et al.: it changes the optimum, and that is its purpose. With d_i the mean distance to the others and no
normalisation, J the expected mean pairwise distance of a group of G independent images and l_i = log p(x_i):

    grad J = 2 E[ 1/G sum_i d_i grad l_i ],

because a pair's distance appears in the d of both images. Centred on the group, as in `group_advantages`, the
estimator 1/G sum_i (d_i - mean d) grad l_i has expectation (G - 2) / G * grad J / 2. So the bonus climbs the group's
expected diversity, at a rate that the group size fixes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.functional.diversity import distance_to_others


@dataclass(frozen=True)
class DiversityShaping:
    """The shaping bonus of a group.

    Attributes:
        weight: alpha >= 0. The reward part of an advantage is in standard deviations of the reward, so alpha = 1 weighs
            a cosine distance of 1 like one standard deviation.
        gamma: discount; gamma^T is a plain factor of the bonus.
        normalise: `raw` takes d_i as it is; `minmax` stretches the group's d to [0, 1].
        floor: smallest spread that `minmax` stretches in full, so that near-copies are not told apart by noise:
            clip((d - d_min) / max(d_max - d_min, floor), 0, 1).
    """

    weight: float
    gamma: float = 1.0
    normalise: str = "raw"
    floor: float = 0.05

    def __call__(self, embedding_PGD: Tensor, valid_PG: Tensor, num_steps: int) -> Tensor:
        """alpha gamma^T d^_i: the discounted sum of the shaping rewards of T = `num_steps` steps, float32 [P, G]."""
        return self.weight * self.gamma**num_steps * self.potential(embedding_PGD, valid_PG)

    def potential(self, embedding_PGD: Tensor, valid_PG: Tensor) -> Tensor:
        """Phi at the final images: d^_i of each valid image against all valid images of its group, [P, G]."""
        distance_PG = distance_to_others(embedding_PGD, valid_PG)
        if self.normalise == "raw":
            return distance_PG
        lowest = torch.where(valid_PG, distance_PG, torch.inf).amin(1, keepdim=True)
        highest = torch.where(valid_PG, distance_PG, -torch.inf).amax(1, keepdim=True)
        scaled_PG = ((distance_PG - lowest) / (highest - lowest).clamp(min=self.floor)).clamp(0, 1)
        return torch.where(valid_PG, scaled_PG, 0)
