"""Lever 1, sampling: train on a reward-concentrated subset of each group (DRIFT, arXiv 2601.12401).

Reward outliers have the largest policy gradients and are where reward hacking is most likely. The subset holds the
images whose reward is near the bulk of the group. The abstract does not give the rule; these are our reading.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from drift_pl.functional.rounding import rounding_spread

SelectionRule: TypeAlias = Callable[[Tensor], Tensor]
"""From rewards [P, G], NaN or infinite where an image has none, to the images that are trained on, bool [P, G]."""

# Makes the median absolute deviation of a normal distribution equal to its standard deviation.
MAD_TO_STD = 1.4826

# Variances with a smaller relative difference count as tied, because rewards are float32.
TIED = 1e-6


@dataclass(frozen=True)
class KeepAll:
    """Keeps every image with a finite reward: the lever is off."""

    def __call__(self, reward_PG: Tensor) -> Tensor:
        return reward_PG.isfinite()


@dataclass(frozen=True)
class Band:
    """Keeps images whose reward is within kappa spreads of the centre of their group's finite rewards.

    Attributes:
        kappa: half-width of the band, > 0.
        statistics: `median`: centre and spread are the median and 1.4826 x the median absolute deviation (midpoints
            for even counts, as in numpy); if most rewards of a group are equal, every image with another reward is
            dropped, including off-prompt ones. `mean`: mean and population standard deviation; a large minority widens
            the band and is kept. The half-width is at least what float32 rounding explains (`rounding_spread`), so
            that a group that scores alike is kept for any kappa.
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
        return deviation_PG <= (self.kappa * spread_P1).maximum(rounding_spread(reward_PG, reward_PG.isfinite()))


@dataclass(frozen=True)
class Quantile:
    """Keeps images whose reward lies between two quantiles of their group's finite rewards, ends included.

    Quantiles are interpolated linearly, as numpy's are by default.

    Attributes:
        low, high: 0 <= low < high <= 1. (0.1, 0.9) drops both tails; low = 0 drops only the top one, where reward
            hacking occurs, and keeps the bad images that the policy learns to avoid; (0, 1) keeps every image.
    """

    low: float
    high: float

    def __call__(self, reward_PG: Tensor) -> Tensor:
        """bool [P, G], True where an image is trained on."""
        # float64 and a margin, so that a quantile that falls on an image keeps it: 0.28 x 25 is 7.000000000000001.
        finite_PG = torch.where(reward_PG.isfinite(), reward_PG.double(), torch.nan)
        lowest_P1, highest_P1 = (finite_PG.nanquantile(q, dim=1, keepdim=True) for q in (self.low, self.high))
        margin_P1 = 1e-9 * (highest_P1 - lowest_P1)
        return (finite_PG >= lowest_P1 - margin_P1) & (finite_PG <= highest_P1 + margin_P1)


@dataclass(frozen=True)
class MinVariance:
    """Keeps the k images of a group whose rewards have the smallest variance, or all if there are fewer.

    The optimal set is always contiguous in sorted order: replacing an outer reward by one in between narrows the set.
    The opposite is `MaxVariance`. Meant for over-sampled groups, with k >= 3G/4: the window lies where rewards are
    densest, so a tight one often drops the best image and may lie entirely on one side of the group's mean, which
    leaves little signal about what scores well (`selection_statistics` counts both).

    Attributes:
        keep: k >= 2. Ties go to the window whose ranks are nearest to the median's, then to the lower one; among equal
            rewards, to the first image.
    """

    keep: int

    def __call__(self, reward_PG: Tensor) -> Tensor:
        """bool [P, G], True where an image is trained on."""
        ordered_PG, order_PG, count_P1 = _ascending(reward_PG)
        size = min(self.keep, reward_PG.shape[1])
        windows_PWK = ordered_PG.unfold(1, size, 1)
        variance_PW = windows_PWK.var(-1, correction=0)
        start_W = torch.arange(windows_PWK.shape[1], device=reward_PG.device)
        # A group with fewer than k rewards has no window: all are tied, and the first is nearest to the middle.
        variance_PW = torch.where(start_W + size <= count_P1, variance_PW, torch.inf)
        tied_PW = variance_PW <= (1 + TIED) * variance_PW.amin(1, keepdim=True)
        off_centre_PW = (2 * start_W + size - count_P1).abs()
        start_P1 = torch.where(tied_PW, off_centre_PW, 2 * order_PG.shape[1]).argmin(1, keepdim=True)
        rank_G = torch.arange(reward_PG.shape[1], device=reward_PG.device)
        return _in_place((rank_G >= start_P1) & (rank_G < (start_P1 + size).minimum(count_P1)), order_PG)


@dataclass(frozen=True)
class NearMedian:
    """Keeps the k images whose rewards are nearest to their group's median, or all if there are fewer.

    Attributes:
        keep: k >= 2. Of two rewards at the same distance from the median the lower comes first; of equal rewards, the
            first image.
    """

    keep: int

    def __call__(self, reward_PG: Tensor) -> Tensor:
        """bool [P, G], True where an image is trained on."""
        ordered_PG, order_PG, count_P1 = _ascending(reward_PG)
        median_P1 = _median(torch.where(ordered_PG.isfinite(), ordered_PG, torch.nan))
        distance_PG = (ordered_PG - median_P1).abs()
        nearest_PG = order_PG.gather(1, distance_PG.argsort(dim=1, stable=True))
        rank_G = torch.arange(reward_PG.shape[1], device=reward_PG.device)
        return _in_place(rank_G < count_P1.clamp(max=self.keep), nearest_PG)


@dataclass(frozen=True)
class MaxVariance:
    """Keeps the k images of a group whose rewards have the largest variance (PODS, arXiv 2504.13818): an ablation.

    The optimal set is the i highest and the k - i lowest, for some i. This is the opposite of a reward-concentrated
    subset: it trains on the outliers. A group with fewer rewards keeps them all.

    Attributes:
        keep: k >= 2. Ties go to the most even split, then to the one with more high rewards; of images with equal
            rewards, the first count as lowest and the last as highest.
    """

    keep: int

    def __call__(self, reward_PG: Tensor) -> Tensor:
        """bool [P, G], True where an image is trained on."""
        ordered_PG, order_PG, count_P1 = _ascending(reward_PG)
        size = min(self.keep, reward_PG.shape[1])
        highest_I11 = torch.arange(size, -1, -1, device=reward_PG.device)[:, None, None]
        rank_G = torch.arange(reward_PG.shape[1], device=reward_PG.device)
        kept_IPG = (rank_G < size - highest_I11) | (rank_G >= count_P1 - highest_I11)
        kept_IPG = kept_IPG & (rank_G < count_P1)
        # Every split has k images (or all, if there are fewer), so sums of squares rank like variances.
        mean_IP1 = torch.where(kept_IPG, ordered_PG, 0).sum(-1, keepdim=True) / size
        squares_IP = torch.where(kept_IPG, ordered_PG - mean_IP1, 0).square().sum(-1)
        tied_IP = squares_IP >= (1 - TIED) * squares_IP.amax(0)
        uneven_I1 = (2 * highest_I11[:, 0] - size).abs()
        best_P = torch.where(tied_IP, uneven_I1, size + 1).argmin(0)
        return _in_place(kept_IPG[best_P, torch.arange(len(best_P), device=best_P.device)], order_PG)


def selection_statistics(reward_PG: Tensor, kept_PG: Tensor) -> dict[str, Tensor]:
    """Selection statistics per group, in [0, 1]; the caller aggregates over groups.

    Returns:
        `kept_fraction` [P]; `best_dropped` [P], 1 where the group's best image is not kept; `one_sided` [P], 1 where
        the kept rewards all lie on one side of the full group's mean (centring on the kept set then determines the
        sign); `empty_groups` [P], 1 where fewer than two images are kept, so the group contributes no update.
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


def _ascending(reward_PG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Finite rewards in ascending order, then +inf, float64 [P, G]; their image indices; the number of finite ones.

    In float64, mean and variance of float32 rewards are accurate to a millionth, even with outliers and offsets.
    """
    finite_PG = reward_PG.isfinite()
    ordered_PG, order_PG = torch.where(finite_PG, reward_PG.double(), torch.inf).sort(dim=1, stable=True)
    return ordered_PG, order_PG, finite_PG.sum(1, keepdim=True)


def _in_place(kept_PG: Tensor, order_PG: Tensor) -> Tensor:
    """Maps a mask over sorted ranks back to image order: bool [P, G]."""
    return torch.zeros_like(kept_PG).scatter(1, order_PG, kept_PG)
