"""Several judges on one footing: each score in units of its own spread within the group (GDPO)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from drift_pl.functional.advantage import masked_mean, masked_std

# A spread below this share of the largest score is rounding of a judge that says the same of every image: float32
# carries seven digits. A share and not a number, so that the unit of a judge has no say.
RELATIVE_FLOOR = 1e-6


def normalise_per_reward(by_judge: Mapping[str, Tensor], weights: Mapping[str, float], kept_PG: Tensor) -> Tensor:
    """sum_k w_k (r_ik - mean r_k) / std r_k, over the images of a group (GDPO, arXiv 2601.05242).

    In a sum of raw scores the judge with the widest spread decides. Here each is centred and divided by its own
    population standard deviation within the group first, so that weights are shares, whatever a judge's unit.
    GDPO's second step, division by the batch's spread, is `AdvantageRule(std="global")` on the result.

    Args:
        by_judge: judge name -> raw scores, [P, G]; NaN or infinity where it has none.
        weights: judge name -> w_k.
        kept_PG: bool, the images that mean and spread are taken over; of those, the ones that every judge scored.
            All true for the full group. Images outside are normalised by the same mean and spread.

    Returns:
        float32 [P, G]; NaN for an image that any judge could not score. A judge that scores all alike adds 0.

    Raises:
        ValueError: there is no judge, or one has no weight.
    """
    if not by_judge or by_judge.keys() - weights.keys():
        raise ValueError(f"judges {sorted(by_judge)} need weights, there are {sorted(weights)}")
    scored_PG = torch.stack([score_PG.isfinite() for score_PG in by_judge.values()]).all(0)
    counted_PG = kept_PG & scored_PG
    total_PG = torch.zeros_like(kept_PG, dtype=torch.float64)
    for name, score_PG in by_judge.items():
        total_PG += weights[name] * _standardised(torch.where(scored_PG, score_PG.double(), 0), counted_PG)
    return torch.where(scored_PG, total_PG, torch.nan).float()


def _standardised(score_PG: Tensor, counted_PG: Tensor) -> Tensor:
    """Centred scores in units of the group's spread; 0 in groups without a spread."""
    spread_P1 = masked_std(score_PG, counted_PG)
    magnitude_P1 = torch.where(counted_PG, score_PG.abs(), 0).amax(1, keepdim=True)
    varied_P1 = spread_P1 > RELATIVE_FLOOR * magnitude_P1
    centred_PG = score_PG - masked_mean(score_PG, counted_PG)
    return torch.where(varied_P1, centred_PG / torch.where(varied_P1, spread_P1, 1), 0)
