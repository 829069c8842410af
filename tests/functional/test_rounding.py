"""What float32 rounding explains: measured on equal numbers, and far below what rewards differ by.

Catches in functional/rounding.py: nothing counts as rounding; numbers near 0 have none.
Catches in functional/advantage.py: a floor without an absolute part.
Catches in incentive/selection.py: a band narrower than rounding.
"""

from functools import reduce

import pytest
import torch

from drift_pl.functional.advantage import AdvantageRule
from drift_pl.functional.normalisation import normalise_per_reward
from drift_pl.functional.rounding import equal_up_to_rounding, rounding_spread
from drift_pl.incentive.selection import Band

ALL = torch.ones(4, 16, dtype=torch.bool)


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 30.0, 1e5])
def test_sums_in_another_order_differ_by_rounding(magnitude: float, generator: torch.Generator) -> None:
    """A cosine of 768 numbers, as a reward model computes it, summed in sixteen orders."""
    one, other = torch.nn.functional.normalize(torch.randn(2, 4, 768, generator=generator), dim=-1)
    products = one * other * magnitude
    orders = [torch.randperm(768, generator=generator) for _ in range(16)]
    scores = torch.stack([reduce(torch.add, products[:, order].unbind(1)) for order in orders], dim=1)
    assert (scores.amax(1) > scores.amin(1)).all()
    assert equal_up_to_rounding(magnitude + scores, ALL).all()
    assert not equal_up_to_rounding(magnitude + scores + 1e-4 * max(magnitude, 1) * torch.rand(4, 16), ALL).any()


def test_the_spread_by_hand() -> None:
    values = torch.tensor([[0.25, -0.5], [100.0, torch.nan], [-3e5, 0.0]])
    kept = values.isfinite()
    torch.testing.assert_close(rounding_spread(values, kept), 16 * 2**-23 * torch.tensor([[1.0], [100.0], [3e5]]))
    empty = torch.zeros(1, 2, dtype=torch.bool)
    assert equal_up_to_rounding(torch.full((1, 2), torch.nan), empty).all()


@pytest.mark.parametrize("std", ["group", "global", "kept", "none"])
@pytest.mark.parametrize(("reward", "noise"), [(0.5, 1e-7), (0.0, 1e-7), (1e3, 1e-4), (-21.7, 3e-6)])
def test_rewards_that_differ_by_rounding_do_not_train(
    std: str, reward: float, noise: float, generator: torch.Generator
) -> None:
    """Without an absolute part in the floor their mean advantage is 0.79: 1 % of a spread of rounding is rounding."""
    rewards = reward + noise * torch.randn(4, 16, generator=generator)
    spread = float(rewards.std())
    advantage = AdvantageRule(std)(rewards, ALL, None, torch.tensor(spread), 0.01 * spread)
    assert torch.equal(advantage, torch.zeros(4, 16))
    assert torch.equal(normalise_per_reward({"one": rewards}, {"one": 1.0}, ALL), torch.zeros(4, 16))


def test_the_floor_is_absolute_too() -> None:
    """Rewards -+ 1.5e-6 exceed the threshold of 1.9e-6, and are divided by it, not by their own 1.5e-6."""
    rewards = torch.tensor([[-1.5e-6, 1.5e-6]])
    advantage = AdvantageRule("group")(rewards, torch.ones(1, 2) > 0, None, torch.tensor(0.0), 0.0)
    expected = 1.5e-6 / (16 * 2**-23)
    torch.testing.assert_close(advantage, torch.tensor([[-expected, expected]]))


def test_ordinary_rewards_are_divided_as_before(generator: torch.Generator) -> None:
    """Bit for bit: a spread of a thousandth, at a magnitude of 0.85, is far above rounding."""
    rewards = 0.85 + 0.001 * torch.randn(4, 16, generator=generator)
    ours = AdvantageRule("group", clip=1e9)(rewards, ALL, None, torch.tensor(0.0), 1e-5)
    mean = rewards.sum(-1, keepdim=True) / 16
    std = ((rewards - mean).square().sum(-1, keepdim=True) / 16).sqrt()
    assert torch.equal(ours, (rewards - mean) / std.clamp(min=1e-5))


@pytest.mark.parametrize("statistics", ["mean", "median"])
@pytest.mark.parametrize("noise", [0.0, 1e-7])
@pytest.mark.parametrize("size", [3, 7, 24])
def test_a_band_keeps_a_group_that_scores_alike(
    statistics: str, noise: float, size: int, generator: torch.Generator
) -> None:
    """The mean of n equal float32 numbers is often not that number, and every deviation is the whole spread."""
    reward = 0.831270456 + noise * torch.randn(50, size, generator=generator)
    reward[0, 0] = torch.nan
    assert torch.equal(Band(0.5, statistics)(reward), reward.isfinite())
