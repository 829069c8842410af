"""The reward-concentrated subset, against scipy, exhaustive search over subsets, and groups computed by hand."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import median_abs_deviation

from drift_pl.incentive.selection import (
    Band,
    KeepAll,
    MaxVariance,
    MinVariance,
    NearMedian,
    Quantile,
    selection_statistics,
)

NAN, INF = torch.nan, torch.inf

Objective = Callable[[np.ndarray, np.ndarray], float]
"""The objective that a subset (first) of a group (second) minimizes."""

FIXED_SIZE: list[tuple[type[MinVariance] | type[NearMedian] | type[MaxVariance], Objective]] = [
    (MinVariance, lambda subset, _: float(subset.var())),
    (MaxVariance, lambda subset, _: -float(subset.var())),
    (NearMedian, lambda subset, group: float(np.abs(subset - np.median(group)).sum())),
]
RULES = [Band(1.0), Band(1.0, "mean"), Quantile(0.1, 0.9), MinVariance(5), NearMedian(5), MaxVariance(5), KeepAll()]


def heavy_tailed(groups: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Rewards about 20 with outliers; all different."""
    normal = torch.randn(groups, size, generator=generator)
    return 20 + normal * normal.abs().exp()


def best_subset(group: np.ndarray, keep: int, objective: Objective) -> list[bool]:
    """Oracle: every subset of `keep` images is tried."""
    subsets = [list(subset) for subset in combinations(range(len(group)), keep)]
    best = min(subsets, key=lambda subset: objective(group[subset], group))
    return [image in best for image in range(len(group))]


def kept_images(rule: Callable[[torch.Tensor], torch.Tensor], rewards: list[float]) -> list[float]:
    """The rewards that a rule keeps of one group, in the group's order."""
    reward = torch.tensor([rewards])
    return reward[rule(reward)].tolist()


@pytest.mark.parametrize("size", [3, 8, 9, 24])
@pytest.mark.parametrize("kappa", [0.7, 1.0, 2.0])
def test_the_band_is_median_and_mad(size: int, kappa: float, generator: torch.Generator) -> None:
    """Oracle: numpy's median and scipy's median_abs_deviation; heavy tails, so that mean and std would differ.

    Catches in incentive/selection.py: band about the mean; band in std instead of MAD; MAD without 1.4826; lower median
    for even groups.
    """
    normal = torch.randn(50, size, generator=generator)
    reward = 20 + normal * normal.abs().exp()
    r = reward.double().numpy()
    spread = 1.4826 * median_abs_deviation(r, axis=1, keepdims=True)
    expected = np.abs(r - np.median(r, axis=1, keepdims=True)) <= kappa * spread
    kept = Band(kappa)(reward)
    assert kept.dtype == torch.bool
    assert np.array_equal(kept.numpy(), expected)
    by_mean = np.abs(r - r.mean(1, keepdims=True)) <= kappa * r.std(1, keepdims=True)
    assert not np.array_equal(expected, by_mean)  # the numbers above distinguish the two rules


@pytest.mark.parametrize("kappa", [0.5, 1.0, 2.0])
def test_the_other_band_is_mean_and_std(kappa: float, generator: torch.Generator) -> None:
    reward = torch.randn(20, 12, generator=generator).exp().double()
    values = reward.numpy()
    deviation = np.abs(values - values.mean(1, keepdims=True))
    expected = deviation <= kappa * values.std(1, keepdims=True)
    assert torch.equal(Band(kappa, "mean")(reward), torch.from_numpy(expected))
    assert not torch.equal(Band(kappa, "mean")(reward), Band(kappa)(reward))


def test_a_large_minority_survives_the_mean_band_only() -> None:
    """Ten images that show the prompt and four that do not: by hand, mean 5/7, std 0.452, 0.714 / 0.452 = 1.58."""
    reward = torch.tensor([[1.0] * 10 + [0.0] * 4])
    assert Band(2.0, "mean")(reward).all()
    assert Band(2.0)(reward).tolist() == [[True] * 10 + [False] * 4]


def test_an_odd_group_by_hand() -> None:
    """1 2 3 4 100: median 3, MAD 1: kept within 1.4826, so 2 3 4, of which the mean (22) would keep none."""
    assert Band(1.0)(torch.tensor([[1.0, 2.0, 3.0, 4.0, 100.0]])).tolist() == [[False, True, True, True, False]]


def test_an_even_group_takes_midpoints() -> None:
    """0 1 3 10: median 2, deviations 2 1 1 8 with median 1.5: kept within 2.22, so 0 1 3."""
    assert Band(1.0)(torch.tensor([[0.0, 1.0, 3.0, 10.0]])).tolist() == [[True, True, True, False]]
    # 0 1 3 with a half-width of 0.6 * 2.22 = 1.33 about 2 is 1 3; about the lower median 1 it would be 0 1
    assert Band(0.6)(torch.tensor([[0.0, 1.0, 3.0, 10.0]])).tolist() == [[False, True, True, False]]


def test_images_without_a_reward_are_never_kept_and_do_not_count() -> None:
    """Among the finite 1 2 3 4 100 the band is that of the odd group above.

    Catches in incentive/selection.py: infinite rewards kept.
    """
    reward = torch.tensor([[1.0, NAN, 2.0, 3.0, INF, 4.0, 100.0, -INF], [NAN] * 8])
    assert Band(1.0)(reward).tolist() == [[False, False, True, True, False, True, False, False], [False] * 8]
    assert KeepAll()(reward).tolist() == [[True, False, True, True, False, True, True, False], [False] * 8]


def test_equal_rewards_are_all_kept() -> None:
    assert Band(0.1)(torch.full((2, 5), 0.831270456)).all()


def test_the_rule_does_not_depend_on_scale_or_shift(generator: torch.Generator) -> None:
    reward = torch.randn(20, 16, generator=generator)
    assert torch.equal(Band(1.0)(reward), Band(1.0)(64 * reward))  # a power of two: no rounding
    assert torch.equal(Band(1.0)(reward), Band(1.0)(-reward))


def test_statistics_by_hand() -> None:
    """Means of the full groups: 22, 4, 2.5 and 5."""
    reward = torch.tensor([[1.0, 2.0, 3.0, 4.0, 100.0], [2.0, 3.0, 4.0, 5.0, 6.0], [1, 2, 3, 4, NAN], [5, 5, 5, 5, 5]])
    kept = torch.tensor(
        [
            [False, True, True, True, False],  # 2 3 4 are all below 22, and the best, 100, is gone
            [False, True, True, True, False],  # 3 and 5 lie about 4, and the best, 6, is gone
            [False, False, False, True, False],  # 4 is the best, above 2.5, and alone
            [True, True, True, True, True],  # on neither side
        ]
    )
    statistics = selection_statistics(reward, kept)
    assert statistics["kept_fraction"].tolist() == pytest.approx([0.6, 0.6, 0.2, 1.0])
    assert statistics["best_dropped"].tolist() == [1, 1, 0, 0]
    assert statistics["one_sided"].tolist() == [1, 0, 1, 0]
    assert statistics["empty_groups"].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("keep", range(2, 9))
@pytest.mark.parametrize(("rule", "objective"), FIXED_SIZE)
def test_k_of_eight_are_the_best_of_all_subsets(
    rule: type[MinVariance], objective: Objective, keep: int, generator: torch.Generator
) -> None:
    """Catches in incentive/selection.py: farthest instead of nearest; ranks taken for images; order undone by gather;
    PODS: another group's best, one too many low, mean over all finite, absolute deviations.
    """
    reward = heavy_tailed(40, 8, generator)
    expected = [best_subset(group, keep, objective) for group in reward.double().numpy()]
    kept = rule(keep)(reward)
    assert kept.dtype == torch.bool
    assert kept.tolist() == expected


@pytest.mark.parametrize("keep", [2, 4, 5, 100])
@pytest.mark.parametrize(("rule", "objective"), FIXED_SIZE)
def test_k_are_chosen_among_the_images_that_have_a_reward(
    rule: type[MinVariance], objective: Objective, keep: int, generator: torch.Generator
) -> None:
    """Groups of 8 with 0 to 8 finite rewards in one batch; if there are fewer than k, all are kept.

    Catches in incentive/selection.py: windows over missing rewards; infinite rewards kept; the median counts a missing
    reward as 0; highest of all, not of the finite.
    """
    reward = heavy_tailed(9, 8, generator)
    for group in range(9):
        missing = torch.randperm(8, generator=generator)[:group]
        reward[group, missing] = torch.tensor([NAN, INF, -INF, NAN, INF, -INF, NAN, INF])[:group]
    for row, kept in zip(reward.double().numpy(), rule(keep)(reward).numpy(), strict=True):
        finite = np.isfinite(row)
        assert not kept[~finite].any()
        chosen = best_subset(row[finite], min(keep, int(finite.sum())), objective) if finite.any() else []
        assert kept[finite].tolist() == chosen


def test_the_tightest_window_and_the_nearest_rewards_are_neighbours(generator: torch.Generator) -> None:
    """In sorted order what they keep is contiguous, and what the ablation keeps has its gap inside."""
    reward = heavy_tailed(50, 24, generator).sort(1).values
    for rule in (MinVariance(18), NearMedian(18)):
        kept = rule(reward)
        assert (kept.sum(1) == 18).all()
        assert ((kept[:, 1:] != kept[:, :-1]).sum(1) <= 2).all()
        assert (kept.float().diff(dim=1).sum(1) <= 1).all()
    dropped = ~MaxVariance(18)(reward)
    assert (dropped.sum(1) == 6).all()
    assert not dropped[:, 0].any()
    assert not dropped[:, -1].any()


def test_a_far_outlier_costs_the_window_no_precision() -> None:
    """By hand: 1 2 3.5 5.5 7.75 has its tightest three at the bottom, whatever else is in the group."""
    assert kept_images(MinVariance(3), [5.5, 1.0, 3.5, 3e38, 2.0, 7.75]) == [1.0, 3.5, 2.0]
    shifted = [value + 4096 for value in (5.5, 1.0, 3.5, 2.0, 7.75)]
    assert kept_images(MinVariance(3), shifted) == [4097.0, 4099.5, 4098.0]


def test_of_windows_as_tight_the_one_about_the_median_is_kept() -> None:
    """By hand: on an even grid all windows are equally tight; 0.1 to 0.5 are even only up to float32 rounding."""
    assert kept_images(MinVariance(3), [4.0, 0.0, 2.0, 1.0, 3.0]) == [2.0, 1.0, 3.0]
    assert kept_images(MinVariance(3), [0.5, 0.1, 0.3, 0.2, 0.4]) == pytest.approx([0.3, 0.2, 0.4])
    assert kept_images(MinVariance(2), [10.0, 0.0, 11.0, 1.0]) == [0.0, 1.0]  # a tie: the lower
    assert kept_images(MinVariance(2), [1.0, 1.0, 1.0, 0.0, 0.0]) == [1.0, 1.0]  # 1 is the median
    assert kept_images(MinVariance(4), [4.0, 0.0, NAN, 2.0, 1.0, 3.0]) == [0.0, 2.0, 1.0, 3.0]  # a tie: the lower


def test_ties_of_the_other_rules_by_hand() -> None:
    """Median 2; 1 and 3 are equally far. The even splits of 0 1 2 3 have the same variance as their mirror images.

    Catches in incentive/selection.py: higher reward first on ties; sorting in float32.
    """
    assert kept_images(NearMedian(2), [4.0, 3.0, 2.0, 1.0, 0.0]) == [2.0, 1.0]
    assert kept_images(NearMedian(3), [3.0, 1.0, 2.0, 5.0]) == [3.0, 1.0, 2.0]  # median 2.5
    # 0 1 3 and 0 2 3 have variance 14/9: more high rewards are preferred
    assert kept_images(MaxVariance(3), [0.0, 1.0, 2.0, 3.0]) == [0.0, 2.0, 3.0]
    assert kept_images(MaxVariance(2), [5.0, 1.0, 9.0, 7.0]) == [1.0, 9.0]
    # squares beyond float32: about their means, 0 0.5 3 sum to 5.2 and 0 2 3 to 4.7 (times 1e76)
    assert kept_images(MaxVariance(3), [0.0, 0.5e38, 2e38, 3e38]) == pytest.approx([0.0, 0.5e38, 3e38])


@pytest.mark.parametrize("rule", [MinVariance, NearMedian, MaxVariance])
def test_of_equal_rewards_k_are_kept(rule: type[MinVariance]) -> None:
    reward = torch.full((2, 7), 0.831270456)
    reward[1, 3] = NAN
    assert rule(4)(reward).sum(1).tolist() == [4, 4]
    assert not rule(4)(reward)[1, 3]


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.9), (0.0, 0.75), (0.25, 1.0), (0.37, 0.41)])
@pytest.mark.parametrize("size", [3, 8, 24])
def test_quantiles_are_numpys(low: float, high: float, size: int, generator: torch.Generator) -> None:
    """Catches in incentive/selection.py: lower quantile exclusive."""
    reward = heavy_tailed(50, size, generator)
    reward[::3, 1] = torch.tensor([NAN, INF, -INF]).repeat(6)[: len(reward[::3])]
    r = np.where(np.isfinite(reward.numpy()), reward.double().numpy(), np.nan)
    lowest, highest = np.nanquantile(r, [low, high], axis=1, keepdims=True)
    assert np.array_equal(Quantile(low, high)(reward).numpy(), (r >= lowest) & (r <= highest))


def test_quantiles_by_hand() -> None:
    """Of 1 to 5 a quarter is 2 and three quarters are 4: both images stay."""
    five = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert kept_images(Quantile(0.25, 0.75), five) == [4.0, 2.0, 3.0]
    assert kept_images(Quantile(0.0, 0.75), five) == [1.0, 4.0, 2.0, 3.0]  # the top tail only
    assert kept_images(Quantile(0.0, 1.0), [*five, NAN]) == five
    assert kept_images(Quantile(0.1, 0.9), [NAN, INF]) == []
    assert kept_images(Quantile(0.4, 0.6), [2.0, 2.0, 2.0, 2.0]) == [2.0] * 4  # equal rewards all stay


@pytest.mark.parametrize("high", [0.1, 0.3, 0.6, 0.7, 0.8, 0.9])
def test_a_quantile_that_falls_on_an_image_keeps_it(high: float, generator: torch.Generator) -> None:
    """Eleven rewards: the quantile 0.7 is the eighth of them, although 0.7 has no exact binary representation.

    Catches in incentive/selection.py: quantiles in float32.
    """
    reward = heavy_tailed(20, 11, generator)
    assert (Quantile(0.0, high)(reward).sum(1) == round(10 * high) + 1).all()


@pytest.mark.parametrize("rule", RULES)
def test_what_is_kept_depends_neither_on_order_nor_on_other_groups(
    rule: Callable[[torch.Tensor], torch.Tensor], generator: torch.Generator
) -> None:
    reward = heavy_tailed(20, 9, generator) * 10.0 ** torch.arange(-3, 17)[:, None]
    reward[3, 4], reward[5, :7] = NAN, INF
    kept = rule(reward)
    permutation = torch.randperm(9, generator=generator)
    assert torch.equal(rule(reward[:, permutation]), kept[:, permutation])
    for group in range(20):
        assert torch.equal(rule(reward[group : group + 1]), kept[group : group + 1])
