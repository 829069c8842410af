"""The optimum of fine-tuning within the support of the base model, by reweighting its samples.

Of all distributions pi over the images of a prompt, the one that maximizes

    E_pi[r(x)] + lambda D(pi) - beta KL(pi || base),   D(pi) = E_{x, y ~ pi}[1 - cos(e(x), e(y))],

is pi(x) ~ base(x) exp((r(x) - 2 lambda e(x).mu) / beta) with mu = E_pi[e(x)]: r - 2 lambda e.mu is the first variation
of r + lambda D, and D is concave in pi. With lambda = 0 it is the optimum of KL-regularized fine-tuning (as in Rafailov
et al., arXiv 2305.18290, equation 4). N weighted samples of the base model represent it without any training.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

TOLERANCE = 1e-4  # of the logarithm of a weight
MAX_STEPS = 20_000


def tilted_mean(reward_PN: Tensor, embedding_PND: Tensor, kl_weight: float, diversity_weight: float = 0.0) -> Tensor:
    """mu of the optimum for each prompt, float64 [P, D]; `tilt` uses it to weight any samples of the base model.

    Args:
        reward_PN: of N samples of P prompts.
        embedding_PND: normalized here.
        kl_weight: beta > 0, in units of the reward.
        diversity_weight: lambda >= 0, in units of the reward per unit of mean pairwise cosine distance.

    Raises:
        ValueError: a weight is out of range.
    """
    if not kl_weight > 0 or not diversity_weight >= 0:
        raise ValueError(f"kl_weight={kl_weight} must be above 0 and diversity_weight={diversity_weight} 0 or above")
    unit_PND, reward_PN = normalize(embedding_PND.double(), dim=-1), reward_PN.double()
    score_PN = torch.zeros_like(reward_PN)
    # mirror ascent; no coordinate of the curvature exceeds 2 lambda / beta, so this step never overshoots
    step = kl_weight / (kl_weight + 2 * diversity_weight)
    for _ in range(MAX_STEPS):
        mean_PD = _weighted_mean(score_PN.softmax(-1), unit_PND)
        change_PN = tilt(reward_PN, unit_PND, mean_PD, kl_weight, diversity_weight) - score_PN
        change_PN = change_PN - change_PN.mean(-1, keepdim=True)  # a constant does not change the weights
        score_PN = score_PN + step * change_PN
        if change_PN.abs().max() < TOLERANCE:
            break
    return _weighted_mean(score_PN.softmax(-1), unit_PND)


def tilt(
    reward_PN: Tensor, embedding_PND: Tensor, mean_PD: Tensor, kl_weight: float, diversity_weight: float = 0.0
) -> Tensor:
    """log pi(x) / base(x), up to a constant per prompt, float64 [P, N]: a softmax over samples gives their weights.

    Args:
        mean_PD: from `tilted_mean`; for unbiased weights, of other samples of the same prompts.
    """
    unit_PND = normalize(embedding_PND.double(), dim=-1)
    return (reward_PN.double() - 2 * diversity_weight * torch.einsum("pnd,pd->pn", unit_PND, mean_PD)) / kl_weight


def weighted_pairwise_distance(embedding_PND: Tensor, weight_PN: Tensor) -> Tensor:
    """Mean cosine distance of two different samples drawn by weight, float64 [P]; equal weights: the plain mean.

    Args:
        weight_PN: >= 0, sums to 1 for each prompt; at least two are above 0.
    """
    unit_PND = normalize(embedding_PND.double(), dim=-1)
    same_P = weight_PN.square().sum(-1)
    return 1 - (_weighted_mean(weight_PN, unit_PND).square().sum(-1) - same_P) / (1 - same_P)


def effective_samples(weight_PN: Tensor) -> Tensor:
    """Kish's effective sample size 1 / sum w^2, float64 [P], in [1, N]."""
    return 1 / weight_PN.double().square().sum(-1)


def _weighted_mean(weight_PN: Tensor, embedding_PND: Tensor) -> Tensor:
    return torch.einsum("pn,pnd->pd", weight_PN.double(), embedding_PND)
