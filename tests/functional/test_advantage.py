"""Advantages, against numpy and groups computed by hand."""

import numpy as np
import pytest
import torch

from drift_pl.functional.advantage import (
    AdvantageRule,
    global_std,
    group_advantages,
    masked_mean,
    masked_std,
    reward_moments,
)

# mean 3, deviations -2 -1 0 3, population variance 14 / 4
HAND = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
HAND_STD = 3.5**0.5
ALL = torch.ones(1, 4, dtype=torch.bool)
THREE = torch.tensor([[True, True, True, False]])


def random_groups(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rewards with some NaN, a kept subset that avoids them, and a bonus."""
    reward = 3 + torch.randn(6, 8, generator=generator) * torch.logspace(-1, 1, 6)[:, None]
    reward[1, 3] = reward[4, 0] = torch.nan
    kept = reward.isfinite() & (torch.rand(6, 8, generator=generator) < 0.7)
    return reward, kept, torch.rand(6, 8, generator=generator)


def test_a_whole_group_is_centred_and_divided_by_its_population_std() -> None:
    advantage = group_advantages(HAND, ALL, HAND_STD, 1e-3)
    torch.testing.assert_close(advantage, torch.tensor([[-2.0, -1.0, 0.0, 3.0]]) / HAND_STD)


def test_a_subset_is_centred_on_itself_and_divided_by_what_is_given() -> None:
    """The kept rewards 1 2 3 have mean 2; the dropped one gets zero.

    Catches in functional/advantage.py: centred on the full group, not on the kept subset.
    """
    advantage = group_advantages(HAND, THREE, HAND_STD, 1e-3)
    torch.testing.assert_close(advantage, torch.tensor([[-1.0, 0.0, 1.0, 0.0]]) / HAND_STD)


def test_the_bonus_is_centred_on_the_subset_and_never_divided() -> None:
    """Kept bonuses 0.1 0.5 0.3 have mean 0.3; a reward part of zero shows the bonus alone.

    Catches in functional/advantage.py: bonus divided by the reward's spread; bonus not centred.
    """
    bonus = torch.tensor([[0.1, 0.5, 0.3, 9.0]])
    advantage = group_advantages(torch.full((1, 4), 7.0), THREE, 100.0, 1e-3, bonus)
    torch.testing.assert_close(advantage, torch.tensor([[-0.2, 0.2, 0.0, 0.0]]), rtol=0, atol=1e-6)
    both = group_advantages(HAND, THREE, 2.0, 1e-3, bonus)
    torch.testing.assert_close(both, torch.tensor([[-0.7, 0.2, 0.5, 0.0]]), rtol=0, atol=1e-6)


def test_an_image_without_a_bonus_does_not_count_for_its_mean() -> None:
    """Kept bonuses 0.1 and 0.3 have mean 0.2; the kept image without one keeps its reward part.

    Catches in functional/advantage.py: a bonus of NaN taken for 0.
    """
    bonus = torch.tensor([[0.1, torch.nan, 0.3, 9.0]])
    advantage = group_advantages(torch.full((1, 4), 7.0), THREE, 100.0, 1e-3, bonus)
    torch.testing.assert_close(advantage, torch.tensor([[-0.1, 0.0, 0.1, 0.0]]), rtol=0, atol=1e-6)


def test_groups_do_not_see_each_other(generator: torch.Generator) -> None:
    """Oracle: each group separately, in numpy; one group's rewards are a thousand times another's.

    Catches in functional/advantage.py: groups mixed: centred on the batch; std of the kept subset where the group's was
    asked; sample std (n - 1).
    Catches: groups mixed, or keyed by truncated text.
    """
    reward, kept, bonus = random_groups(generator)
    ours = AdvantageRule("group", clip=1e9)(reward, kept, bonus, torch.tensor(0.0), 1e-6)
    for row in range(len(reward)):
        r, k, b = (part[row].double().numpy() for part in (reward, kept, bonus))
        k = k.astype(bool)
        expected = np.where(k, (r - r[k].mean()) / np.nanstd(r) + b - b[k].mean(), 0)
        np.testing.assert_allclose(ours[row], expected, rtol=0, atol=2e-5)  # float32, advantages up to 3


@pytest.mark.parametrize("std", ["group", "global", "kept", "none"])
def test_kept_advantages_sum_to_zero_and_the_others_are_zero(std: str, generator: torch.Generator) -> None:
    reward, kept, bonus = random_groups(generator)
    advantage = AdvantageRule(std, clip=1e9)(reward, kept, bonus, torch.tensor(2.0), 1e-6)
    assert advantage.isfinite().all()
    assert (advantage[~kept] == 0).all()
    # float32: a mean of 8 rewards near 3 is off by up to 8 * 6e-8 * 3, divided by a std of 0.1 at the least
    assert (advantage.sum(1).abs() < 8 * 6e-8 * 3 / 0.1 * 8).all()
    assert (advantage.abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("std", "divisor"),
    # the full group; the batch, as given; the kept 1 2 3 with variance 2/3; 1, without a floor
    [("group", HAND_STD), ("global", 4.0), ("kept", (2 / 3) ** 0.5), ("none", 1.0)],
)
def test_each_rule_divides_by_its_own_spread(std: str, divisor: float) -> None:
    advantage = AdvantageRule(std)(HAND, THREE, None, torch.tensor(4.0), 1e-3)
    torch.testing.assert_close(advantage, torch.tensor([[-1.0, 0.0, 1.0, 0.0]]) / divisor)


def test_masked_moments_are_numpys(generator: torch.Generator) -> None:
    reward, kept, _ = random_groups(generator)
    masked = np.where(kept.numpy(), reward.double().numpy(), np.nan)
    np.testing.assert_allclose(masked_mean(reward, kept)[:, 0], np.nanmean(masked, 1), rtol=1e-5)
    np.testing.assert_allclose(masked_std(reward, kept)[:, 0], np.nanstd(masked, 1), rtol=1e-4)
    empty = torch.zeros(1, 3, dtype=torch.bool)
    assert float(masked_mean(torch.full((1, 3), torch.nan), empty)) == 0
    assert float(masked_std(torch.full((1, 3), torch.nan), empty)) == 0


def test_moments_of_two_processes_add_up_to_the_batchs_std(generator: torch.Generator) -> None:
    """Oracle: numpy on all rewards at once. The spread is small beside the mean, as PickScore's is.

    Catches in functional/advantage.py: global std: NaN rewards are counted.
    """
    reward = 0.85 + 0.01 * torch.randn(8, 12, generator=generator)
    reward[0, 0], reward[5, 2] = torch.nan, torch.inf
    total = reward_moments(reward[:5]) + reward_moments(reward[5:])
    finite = reward[reward.isfinite()].double().numpy()
    assert float(total[0]) == len(finite) == 94
    assert float(global_std(total)) == pytest.approx(finite.std(), rel=1e-6)
    assert float(global_std(reward_moments(torch.full((1, 2), torch.nan)))) == 0


@pytest.mark.parametrize("value", [0.1, 0.831270456, 21.7, -3.3e5])
@pytest.mark.parametrize("size", [3, 7, 24])
@pytest.mark.parametrize("std", ["group", "kept", "none"])
def test_equal_rewards_give_exactly_zero(value: float, size: int, std: str) -> None:
    """The mean of n equal float32 numbers is often not that number: divided by a tiny std, that would be noise.

    Catches in functional/advantage.py: equal rewards amplified to noise.
    Catches: judge noise blown up where all images score alike.
    """
    reward = torch.full((1, size), value)
    kept = torch.ones(1, size, dtype=torch.bool)
    advantage = AdvantageRule(std)(reward, kept, None, torch.tensor(0.0), 0.0)
    assert torch.equal(advantage, torch.zeros(1, size))


def test_equal_rewards_still_feel_the_bonus() -> None:
    bonus = torch.tensor([[0.0, 1.0, 0.5]])
    kept = torch.ones(1, 3, dtype=torch.bool)
    advantage = AdvantageRule()(torch.full((1, 3), 0.1), kept, bonus, torch.tensor(0.0), 1e-3)
    torch.testing.assert_close(advantage, torch.tensor([[-0.5, 0.5, 0.0]]))


def test_the_floor_keeps_the_judges_noise_small() -> None:
    """Rewards 0 and 0.002: deviations of 0.001, which is their std; with a floor of 0.1 they stay at 0.01.

    Catches in functional/advantage.py: no floor under the spread.
    """
    reward, kept = torch.tensor([[0.0, 0.002]]), torch.ones(1, 2, dtype=torch.bool)
    floored = AdvantageRule()(reward, kept, None, torch.tensor(0.0), 0.1)
    torch.testing.assert_close(floored, torch.tensor([[-0.01, 0.01]]), rtol=1e-4, atol=0)
    free = AdvantageRule()(reward, kept, None, torch.tensor(0.0), 1e-6)
    torch.testing.assert_close(free, torch.tensor([[-1.0, 1.0]]), rtol=1e-4, atol=0)


def test_a_group_with_fewer_than_two_kept_images_gives_no_update() -> None:
    reward = torch.tensor([[1.0, 5.0, 9.0], [torch.nan, torch.nan, 2.0], [1.0, 3.0, 2.0]])
    kept = torch.tensor([[False, True, False], [False, False, True], [True, True, False]])
    bonus = torch.tensor([[0.3, 0.9, 0.1]] * 3)
    advantage = AdvantageRule()(reward, kept, bonus, torch.tensor(1.0), 1e-3)
    assert torch.equal(advantage[:2], torch.zeros(2, 3))
    assert (advantage[2, :2] != 0).all()


def test_advantages_are_clipped_on_both_sides() -> None:
    """One outlier of eight: its standardised value is sqrt(7) = 2.65, the others' -0.378.

    Catches in functional/advantage.py: advantage not clipped.
    """
    reward = torch.zeros(2, 8)
    reward[0, 0], reward[1, 0] = 10.0, -10.0
    kept = torch.ones(2, 8, dtype=torch.bool)
    clipped = AdvantageRule(clip=2.0)(reward, kept, None, torch.tensor(0.0), 1e-3)
    assert clipped[:, 0].tolist() == [2.0, -2.0]
    free = AdvantageRule(clip=5.0)(reward, kept, None, torch.tensor(0.0), 1e-3)
    torch.testing.assert_close(free[:, 0], torch.tensor([7**0.5, -(7**0.5)]))
    torch.testing.assert_close(clipped[:, 1:], free[:, 1:])
