"""IPS-GRPO: its fixed point, and rewards by hand on groups of known clusters."""

import pytest
import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.functional.advantage import group_advantages
from drift_pl.incentive.methods.inverse_probability import InverseProbability


def outcomes(*number: int) -> Tensor:
    """A group of embeddings, [1, G, 3]: copies of three orthogonal images."""
    return torch.eye(3)[list(number)][None]


def test_no_advantage_is_left_where_shares_are_proportional_to_rewards() -> None:
    """The paper's fixed point, p* proportional to r: six images of reward 3, two of 1, so r / p = 4 for all.

    Catches in incentive/methods/inverse_probability.py: multiplied; floor as a cap; always shifted; count for share.
    """
    scores = Scores(torch.tensor([[3.0] * 6 + [1.0] * 2]), {}, outcomes(0, 0, 0, 0, 0, 0, 1, 1))
    scaled = InverseProbability(clusters=2).reward(scores)
    torch.testing.assert_close(scaled, torch.full((1, 8), 4.0))
    advantage = group_advantages(scaled, scores.valid_PG, 1.0, 1e-3)
    torch.testing.assert_close(advantage, torch.zeros(1, 8), rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_below_its_due_an_outcome_gains_and_above_it_loses(share: float) -> None:
    """Two outcomes of equal reward: the rarer one has the positive advantage, which the plain rule never gives."""
    rare_first = share < 0.5
    number = [0] * round(10 * share) + [1] * round(10 * (1 - share))
    scores = Scores(torch.ones(1, 10), {}, outcomes(*number))
    advantage = group_advantages(InverseProbability(clusters=2).reward(scores), scores.valid_PG, 1.0, 1e-3)
    assert (advantage[0, 0] > 0) == rare_first
    assert (advantage[0, -1] < 0) == rare_first


def test_rewards_are_divided_by_the_share_of_their_cluster() -> None:
    """Shares 3/6, 2/6 and 1/6; the probability is of the images that there are, not of all that were asked for."""
    reward = torch.tensor([[1.0, 2.0, 3.0, 4.0, torch.nan, 5.0, 6.0]])
    scores = Scores(reward, {}, outcomes(0, 1, 0, 2, 2, 1, 0))
    expected = torch.tensor([[2.0, 6.0, 6.0, 24.0, torch.nan, 15.0, 12.0]])
    torch.testing.assert_close(InverseProbability(clusters=3).reward(scores), expected, equal_nan=True)


@pytest.mark.parametrize(("floor", "factors"), [(0.0, [4 / 3, 4.0]), (0.5, [4 / 3, 2.0]), (1.0, [1.0, 1.0])])
def test_the_floor_bounds_the_factor(floor: float, factors: list[float]) -> None:
    """Shares 3/4 and 1/4; a floor of 1 leaves the rewards alone."""
    scores = Scores(torch.full((1, 4), 2.0), {}, outcomes(0, 0, 0, 1))
    expected = 2 * torch.tensor([[factors[0]] * 3 + [factors[1]]])
    torch.testing.assert_close(InverseProbability(clusters=2, floor=floor).reward(scores), expected)


def test_shifted_rewards_start_at_the_groups_own_lowest() -> None:
    """Rewards -3, -1 | -2, -2 with shares 1/2 and 1/2 | 1 and 1; NaN is not the lowest."""
    reward = torch.tensor([[-3.0, -1.0, torch.nan], [-2.0, -2.0, -1.5]])
    embedding = torch.cat([outcomes(0, 1, 2), outcomes(0, 0, 0)])
    shifted = InverseProbability(clusters=2, shift=True).reward(Scores(reward, {}, embedding))
    expected = torch.tensor([[0.0, 4.0, torch.nan], [0.0, 0.0, 0.5]])
    torch.testing.assert_close(shifted, expected, equal_nan=True)
    plain = InverseProbability(clusters=2).reward(Scores(reward, {}, embedding))
    torch.testing.assert_close(plain, torch.tensor([[-6.0, -2.0, torch.nan], [-2.0, -2.0, -1.5]]), equal_nan=True)


def test_the_number_of_clusters_and_their_scale_are_arguments() -> None:
    """Angles 0, 60 and 70 degrees: 60 and 70 are one of two clusters, all stand alone, or all are copies."""
    angle = torch.deg2rad(torch.tensor([[0.0, 60.0, 70.0]]))
    scores = Scores(torch.ones(1, 3), {}, torch.stack([angle.cos(), angle.sin()], -1))
    torch.testing.assert_close(InverseProbability(clusters=2).reward(scores), torch.tensor([[3.0, 1.5, 1.5]]))
    torch.testing.assert_close(InverseProbability(clusters=3).reward(scores), torch.full((1, 3), 3.0))
    torch.testing.assert_close(InverseProbability(clusters=3, sigma=500.0).reward(scores), torch.ones(1, 3))
