"""Lever 1, sampling: train on a reward-concentrated subset of each group (DRIFT, arXiv 2601.12401).

Outliers of the reward are where a policy gradient pulls hardest and where a judge is most easily fooled. The subset
holds the images whose reward is near the group's bulk. The paper's exact rule is not public; the rules are our reading.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Makes the median absolute deviation of a normal distribution equal to its standard deviation.
MAD_TO_STD = 1.4826


@dataclass(frozen=True)
class KeepAll:
    """Every image that has a finite reward: the lever is off."""

    def __call__(self, reward_PG: Tensor) -> Tensor:
        return reward_PG.isfinite()


@dataclass(frozen=True)
class Band:
    """Images whose reward is within kappa spreads of the centre of their group's finite rewards.

    Attributes:
        kappa: half-width of the band, > 0.
        statistics: `median`: centre and spread are the median and 1.4826 x the median absolute deviation (of an even
            number of rewards the midpoints, as in numpy); where most images score alike, it drops every image that
            does not, off-prompt ones included. `mean`: mean and population standard deviation, which a large minority
            widens, so that it stays.
    """

    kappa: float
    statistics: str = "median"

    def __call__(self, reward_PG: Tensor) -> Tensor:
        """bool [P, G], True where an image is trained on."""
        finite_PG = torch.where(reward_PG.isfinite(), reward_PG, torch.nan)
        if self.statistics == "mean":
            deviation_PG = (finite_PG - finite_PG.nanmean(1, keepdim=True)).abs()
            spread_P1 = deviation_PG.square().nanmean(1, keepdim=True).sqrt()
        else:
            deviation_PG = (finite_PG - _median(finite_PG)).abs()
            spread_P1 = MAD_TO_STD * _median(deviation_PG)
        return deviation_PG <= self.kappa * spread_P1


def selection_statistics(reward_PG: Tensor, kept_PG: Tensor) -> dict[str, Tensor]:
    """What a rule did, as fractions in [0, 1] (sums over groups are the caller's).

    Returns:
        `kept_fraction` [P]; `best_dropped` [P], 1 where the group's best image is not kept; `one_sided` [P], 1 where
        the kept rewards all lie on one side of the full group's mean (centring on the kept set then decides the sign);
        `empty_groups` [P], 1 where fewer than two images are kept, so that the group gives no update.
    """
    finite_PG = reward_PG.isfinite()
    clean_PG = torch.where(finite_PG, reward_PG, -torch.inf)
    best_P1 = clean_PG.argmax(1, keepdim=True)
    mean_P1 = torch.where(finite_PG, reward_PG, torch.nan).nanmean(1, keepdim=True)
    above_P = (kept_PG & (reward_PG > mean_P1)).any(1)
    below_P = (kept_PG & (reward_PG < mean_P1)).any(1)
    return {
        "kept_fraction": kept_PG.float().mean(1),
        "best_dropped": (finite_PG.any(1) & ~kept_PG.gather(1, best_P1).squeeze(1)).float(),
        "one_sided": (above_P ^ below_P).float(),
        "empty_groups": (kept_PG.sum(1) < 2).float(),
    }


def _median(values_PG: Tensor) -> Tensor:
    return values_PG.nanquantile(0.5, dim=1, keepdim=True)
