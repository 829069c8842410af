"""The reward-concentrated subset, against scipy and groups worked out by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import median_abs_deviation

from drift_pl.incentive.selection import Band, KeepAll, selection_statistics

NAN, INF = torch.nan, torch.inf


@pytest.mark.parametrize("size", [3, 8, 9, 24])
@pytest.mark.parametrize("kappa", [0.7, 1.0, 2.0])
def test_the_band_is_median_and_mad(size: int, kappa: float, generator: torch.Generator) -> None:
    """Oracle: numpy's median and scipy's median_abs_deviation; heavy tails, so that mean and std would differ."""
    normal = torch.randn(50, size, generator=generator)
    reward = 20 + normal * normal.abs().exp()
    r = reward.double().numpy()
    spread = 1.4826 * median_abs_deviation(r, axis=1, keepdims=True)
    expected = np.abs(r - np.median(r, axis=1, keepdims=True)) <= kappa * spread
    kept = Band(kappa)(reward)
    assert kept.dtype == torch.bool
    assert np.array_equal(kept.numpy(), expected)
    by_mean = np.abs(r - r.mean(1, keepdims=True)) <= kappa * r.std(1, keepdims=True)
    assert not np.array_equal(expected, by_mean)  # the numbers above can tell the two rules apart


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
    """Among the finite 1 2 3 4 100 the band is that of the odd group above."""
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
            [True, True, True, True, True],  # on no side
        ]
    )
    statistics = selection_statistics(reward, kept)
    assert statistics["kept_fraction"].tolist() == pytest.approx([0.6, 0.6, 0.2, 1.0])
    assert statistics["best_dropped"].tolist() == [1, 1, 0, 0]
    assert statistics["one_sided"].tolist() == [1, 0, 1, 0]
    assert statistics["empty_groups"].tolist() == [0, 0, 1, 0]
