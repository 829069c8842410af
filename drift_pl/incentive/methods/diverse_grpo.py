"""DiverseGRPO (arXiv 2512.21514): a bonus for rare clusters, and a KL term on early steps only.

Spectral clustering of the affinity exp(-D^2 / (2 sigma^2)) splits a group into k clusters, and with N images in the
group and n_i in the cluster of image i

    R_i = Q_i + beta E_i,        E_i = sqrt(N / n_i).

The regulariser |mu - mu_ref|^2 acts on the first denoising steps, which decide most of the diversity, and not after;
it has no variance in its denominator, which would be largest there: `objective.kl_form=mean`. The paper takes DreamSim
for D; here D = 1 - cos by the shaping encoder. It has no public code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.functional.clusters import cluster_sizes, image_clusters
from drift_pl.incentive.methods.protocol import RewardMethod, check_argument


@dataclass(frozen=True)
class DiverseGrpo(RewardMethod):
    """Reward bonus for images of small clusters; divergence in early steps.

    Attributes:
        beta: weight of E, >= 0, in units of the reward. E is 1 for a group of one cluster and sqrt(N) for an image
            that is a cluster by itself. The paper uses 3; for its rewards 5 saturates.
        clusters: k >= 2. A group is always split into k clusters, unless images are identical: with k above the number
            of modes, the bonus separates images that differ little.
        sigma: scale of the affinity in cosine distances, >= 0.01. With 0.2, images at a distance of 0.1 are neighbours
            (affinity 0.88) and at 0.6 strangers (0.01): what self-supervised encoders give for two images of one
            prompt that look alike, or do not.
        early_steps: denoising steps, from pure noise, that the divergence acts on, >= 0; None: a third of them, rounded
            up. The trained window must reach into them.
    """

    beta: float = 3.0
    clusters: int = 4
    sigma: float = 0.2
    early_steps: int | None = None

    needs_embeddings = True

    def __post_init__(self) -> None:
        check_argument("beta", self.beta, 0)
        check_argument("clusters", self.clusters, 2, whole=True)
        check_argument("sigma", self.sigma, 0.01)
        if self.early_steps is not None:
            check_argument("early_steps", self.early_steps, 0, whole=True)

    def reward(self, scores: Scores) -> Tensor:
        """Q_i + beta E_i over the valid images of each group, float32 [P, G]; NaN for the others."""
        assert scores.embedding_PGD is not None
        valid_PG = scores.valid_PG
        size_PG = cluster_sizes(image_clusters(scores.embedding_PGD, valid_PG, self.clusters, self.sigma))
        rarity_PG = (valid_PG.sum(1, keepdim=True) / size_PG.clamp(min=1)).sqrt()
        return torch.where(valid_PG, scores.reward_PG + self.beta * rarity_PG, torch.nan)

    def divergence(self, scores: Scores, steps_K: tuple[int, ...], num_steps: int) -> Tensor:
        """1 at the first `early_steps` positions of the grid and 0 after, for every image: float32 [K, P, G]."""
        early_steps = -(-num_steps // 3) if self.early_steps is None else self.early_steps
        early_K = torch.tensor([float(step < early_steps) for step in steps_K], device=scores.reward_PG.device)
        return early_K[:, None, None].repeat(1, *scores.reward_PG.shape)
