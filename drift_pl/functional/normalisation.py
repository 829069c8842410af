"""Per-reward normalization within the group, for sums of several rewards (GDPO)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from drift_pl.functional.advantage import masked_mean, masked_std
from drift_pl.functional.rounding import rounding_spread


def normalise_per_reward(by_reward: Mapping[str, Tensor], weights: Mapping[str, float], kept_PG: Tensor) -> Tensor:
    """sum_k w_k (r_ik - mean r_k) / std r_k, over the images of a group (GDPO, arXiv 2601.05242).

    A sum of raw rewards is dominated by the one with the largest spread. Here each reward is first centred and divided
    by its own population standard deviation within the group, so that weights do not depend on its unit.
    GDPO's second step, division by the batch's standard deviation, is `AdvantageRule(std="global")` on the result.

    Args:
        by_reward: reward name -> raw values, [P, G]; NaN or infinity where an image could not be scored.
        weights: reward name -> w_k.
        kept_PG: bool, the images over which mean and standard deviation are computed, as far as every reward is finite
            for them. All true for the full group. Other images are normalized by the same statistics.

    Returns:
        float32 [P, G]; NaN for an image that a reward with a weight other than 0 could not score. A reward that is
        constant up to float32 rounding (`rounding_spread`) contributes 0.

    Raises:
        ValueError: there is no reward, or one has no weight.
    """
    if not by_reward or by_reward.keys() - weights.keys():
        raise ValueError(f"rewards {sorted(by_reward)} need weights, given are {sorted(weights)}")
    counting = {name: score_PG for name, score_PG in by_reward.items() if weights[name]}
    scored_PG = torch.stack([torch.ones_like(kept_PG), *map(torch.isfinite, counting.values())]).all(0)
    counted_PG = kept_PG & scored_PG
    total_PG = torch.zeros_like(kept_PG, dtype=torch.float64)
    for name, score_PG in counting.items():
        total_PG += weights[name] * _standardised(torch.where(scored_PG, score_PG.double(), 0), counted_PG)
    return torch.where(scored_PG, total_PG, torch.nan).float()


def _standardised(score_PG: Tensor, counted_PG: Tensor) -> Tensor:
    """Values centred and divided by the group's standard deviation; 0 in groups of equal values."""
    spread_P1 = masked_std(score_PG, counted_PG)
    varied_P1 = spread_P1 > rounding_spread(score_PG, counted_PG)
    centred_PG = score_PG - masked_mean(score_PG, counted_PG)
    return torch.where(varied_P1, centred_PG / torch.where(varied_P1, spread_P1, 1), 0)
