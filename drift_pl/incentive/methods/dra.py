"""DRA-GRPO (arXiv 2505.09655): rewards divided by the summed similarity to the group.

    r_i <- r_i / (sum_j s_ij + 1e-6),        s_ij = max(cos(e_i, e_j), 0), over the group, itself included.

The paper's 1 + SMI(i; the others), with the graph cut for the submodular mutual information, is the same sum. A graph
cut needs non-negative similarities, which the paper's sentence embeddings have and image embeddings may not have:
negative cosines count as 0 here; otherwise an image opposite to the others would be divided by almost 0, or change
sign. Rewards should be non-negative.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.functional.diversity import cosine_kernel
from drift_pl.incentive.methods.protocol import RewardMethod

EPSILON = 1e-6


@dataclass(frozen=True)
class Dra(RewardMethod):
    """Diversity-aware reward adjustment; it has no settings."""

    needs_embeddings = True

    def reward(self, scores: Scores) -> Tensor:
        """r_i over the summed similarity, for the valid images of each group; NaN for the others.

        Returns:
            float32 [P, G]: between r_i / G, in a group of copies, and r_i, for an image orthogonal to all others.
        """
        assert scores.embedding_PGD is not None
        valid_PG = scores.valid_PG
        similarity_PGG = cosine_kernel(torch.where(valid_PG[..., None], scores.embedding_PGD, 0)).clamp(min=0)
        density_PG = (similarity_PGG * valid_PG[:, None, :]).sum(-1).float()
        return torch.where(valid_PG, scores.reward_PG / (density_PG + EPSILON), torch.nan)
