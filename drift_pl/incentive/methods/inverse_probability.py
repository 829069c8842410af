"""IPS-GRPO (arXiv 2601.21669): rewards divided by the frequency of the outcome in the group.

    r_i <- r_i / max(p_i, floor),        p_i = share of the group that is in the cluster of image i.

An expected reward weights an outcome by its probability, so frequent outcomes are reinforced more often. The division
removes that: where the shares are proportional to the rewards, r / p is the same for all, and no advantage is left.
Images have no discrete outcomes; clusters replace them, by the same spectral clustering as in DiverseGRPO. The method
needs non-negative rewards: dividing a negative one makes rare images worse; see `shift`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.functional.clusters import cluster_sizes, image_clusters
from drift_pl.incentive.methods.protocol import RewardMethod, check_argument


@dataclass(frozen=True)
class InverseProbability(RewardMethod):
    """Inverse probability scaling over clusters.

    Attributes:
        clusters: k >= 2.
        sigma: scale of the affinity in cosine distances, >= 0.01; see `DiverseGrpo`.
        floor: smallest probability that is divided by, in [0, 1]: no reward grows by more than 1 / floor. A cluster has
            at least one image of the group, so a floor below 1 / group_size never acts, and 1 switches the method off.
        shift: subtract the group's lowest reward first, so that rewards are non-negative. The worst image then scores
            0 however rare it is.
    """

    clusters: int = 4
    sigma: float = 0.2
    floor: float = 0.05
    shift: bool = False

    needs_embeddings = True

    def __post_init__(self) -> None:
        check_argument("clusters", self.clusters, 2, whole=True)
        check_argument("sigma", self.sigma, 0.01)
        check_argument("floor", self.floor, 0, 1)

    def reward(self, scores: Scores) -> Tensor:
        """r_i / max(p_i, floor) over the valid images of each group, float32 [P, G]; NaN for the others."""
        assert scores.embedding_PGD is not None
        valid_PG, reward_PG = scores.valid_PG, scores.reward_PG
        if self.shift:
            reward_PG = reward_PG - torch.where(valid_PG, reward_PG, torch.inf).amin(1, keepdim=True)
        size_PG = cluster_sizes(image_clusters(scores.embedding_PGD, valid_PG, self.clusters, self.sigma))
        probability_PG = size_PG / valid_PG.sum(1, keepdim=True).clamp(min=1)
        return torch.where(valid_PG, reward_PG / probability_PG.clamp(min=self.floor), torch.nan)
