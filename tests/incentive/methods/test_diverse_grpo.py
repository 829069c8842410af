"""DiverseGRPO's bonus by hand on groups of known clusters, and where its divergence acts."""

import math

import pytest
import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.incentive.methods.diverse_grpo import DiverseGrpo


def directions(*degrees: float) -> Tensor:
    """A group of unit embeddings, [1, G, 2]; the cosine distance of two is 1 - cos of the angle between them."""
    angle = torch.deg2rad(torch.tensor([degrees]))
    return torch.stack([angle.cos(), angle.sin()], -1)


def test_the_bonus_is_the_root_of_the_inverse_share_of_a_cluster() -> None:
    """Clusters of 3, 1 and 2 among 6: E = sqrt(2), sqrt(6), sqrt(3).

    Catches in incentive/methods/diverse_grpo.py: no root; upside down; beta on the reward; number of clusters ignored.
    """
    scores = Scores(torch.arange(6.0)[None], {}, directions(0, 90, 2, 181, 1, 180))
    big, pair, single = math.sqrt(2), math.sqrt(3), math.sqrt(6)
    expected = torch.arange(6.0) + 0.5 * torch.tensor([big, single, big, pair, big, pair])
    torch.testing.assert_close(DiverseGrpo(beta=0.5, clusters=3).reward(scores)[0], expected)


def test_copies_get_the_same_bonus_and_a_weight_of_zero_none() -> None:
    scores = Scores(torch.tensor([[1.0, 2.0, 3.0]]), {}, directions(30, 30, 30))
    torch.testing.assert_close(DiverseGrpo(beta=3.0).reward(scores), torch.tensor([[4.0, 5.0, 6.0]]))
    assert torch.equal(DiverseGrpo(beta=0.0).reward(scores), scores.reward_PG)


def test_the_number_of_clusters_and_their_scale_are_arguments() -> None:
    """Directions 0, 60 and 70 degrees. Two clusters: 60 and 70 are one. Three: all stand alone. Too coarse: copies."""
    scores = Scores(torch.zeros(1, 3), {}, directions(0, 60, 70))
    two = torch.tensor([[math.sqrt(3), math.sqrt(1.5), math.sqrt(1.5)]])
    torch.testing.assert_close(DiverseGrpo(beta=1, clusters=2).reward(scores), two)
    torch.testing.assert_close(DiverseGrpo(beta=1, clusters=3).reward(scores), torch.full((1, 3), math.sqrt(3)))
    torch.testing.assert_close(DiverseGrpo(beta=1, clusters=3, sigma=500.0).reward(scores), torch.ones(1, 3))


def test_images_of_other_groups_are_no_company() -> None:
    """One group of copies, and one of two pairs, of which the first looks like the copies: 4 / 4 and 4 / 2."""
    embedding = torch.cat([directions(0, 0, 0, 0), directions(0, 0, 90, 90)])
    bonus = DiverseGrpo(beta=1, clusters=2).reward(Scores(torch.zeros(2, 4), {}, embedding))
    torch.testing.assert_close(bonus, torch.tensor([[1.0] * 4, [math.sqrt(2)] * 4]))


@pytest.mark.parametrize(
    ("early_steps", "num_steps", "expected"),
    [
        (3, 10, [1.0, 1.0, 0.0, 0.0]),  # the window is at 1 to 4: positions 1 and 2 are early
        (0, 10, [0.0] * 4),
        (5, 10, [1.0] * 4),
        (None, 10, [1.0, 1.0, 1.0, 0.0]),  # a third of ten steps, rounded up: positions 0 to 3
        (None, 6, [1.0, 0.0, 0.0, 0.0]),  # exactly two
    ],
)
def test_the_divergence_acts_on_the_first_steps_of_the_grid(
    early_steps: int | None, num_steps: int, expected: list[float]
) -> None:
    """Catches in incentive/methods/diverse_grpo.py: late steps for early ones; counted in the window; off by one."""
    scores = Scores(torch.tensor([[1.0, torch.nan, 2.0]] * 2), {}, None)
    factor = DiverseGrpo(early_steps=early_steps).divergence(scores, (1, 2, 3, 4), num_steps)
    assert torch.equal(factor, torch.tensor(expected)[:, None, None].expand(4, 2, 3))
