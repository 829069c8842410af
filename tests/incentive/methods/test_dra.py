"""DRA-GRPO's density against numpy's cosines, and at its two ends."""

import numpy as np
import torch
from scipy.spatial.distance import pdist, squareform

from drift_pl.core.types import Scores
from drift_pl.incentive.methods.dra import Dra


def test_rewards_are_divided_by_one_plus_the_similarity_to_the_others(generator: torch.Generator) -> None:
    """Oracle: the paper's 1 + sum over the others of scipy's cosine similarities; no embedding has negative entries.

    Catches in incentive/methods/dra.py: itself left out; mean for sum; multiplied.
    """
    embedding = torch.nn.functional.normalize(torch.rand(3, 7, 5, generator=generator), dim=-1)
    reward = torch.rand(3, 7, generator=generator)
    ours = Dra().reward(Scores(reward, {}, embedding))
    for group in range(3):
        others = squareform(1 - pdist(embedding[group].double().numpy(), metric="cosine"))  # zero on the diagonal
        np.testing.assert_allclose(
            ours[group], reward[group].numpy() / (1 + others.sum(1)), rtol=1e-5
        )  # 1e-6 in the divisor


def test_copies_share_one_reward_and_strangers_keep_theirs() -> None:
    """Three copies beside one image orthogonal to them."""
    embedding = torch.tensor([[[1.0, 0.0]] * 3 + [[0.0, 1.0]]])
    ours = Dra().reward(Scores(torch.full((1, 4), 6.0), {}, embedding))
    torch.testing.assert_close(ours, torch.tensor([[2.0, 2.0, 2.0, 6.0]]))


def test_an_image_opposite_to_the_others_keeps_its_reward() -> None:
    """By plain cosines its density is 1 - 1 - 1 = -1, or 1 - 1 = 0 beside one other."""
    for others in (1, 2):
        embedding = torch.tensor([[[1.0, 0.0]] * others + [[-1.0, 0.0]]])
        ours = Dra().reward(Scores(torch.ones(1, others + 1), {}, embedding))
        torch.testing.assert_close(ours, torch.tensor([[1 / others] * others + [1.0]]))
