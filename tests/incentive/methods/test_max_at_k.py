"""Multi-axis Max@K: the exact gradient of its objective, and its gains by leaving images out one at a time."""

import itertools

import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.incentive.methods.max_at_k import MaxAtK, leave_one_out_gains


def scores_of(category: Tensor, reward: Tensor | None = None) -> Scores:
    reward = torch.zeros(category.shape[:2]) if reward is None else reward
    return Scores(reward, {}, None, category_PGC=category)


def test_the_estimator_is_the_gradient_of_the_expected_best() -> None:
    """Oracle: autograd through E[sum_c max_i s_c(x_i)] of three draws from four images, all 64 groups enumerated.

    Catches in incentive/methods/max_at_k.py: maximum for the gap; all credited; mean over categories; wrong axis.
    """
    table = torch.tensor([[0.9, 0.1, -0.4], [0.2, 0.8, -0.1], [0.5, 0.5, -0.3], [0.2, 0.3, 0.0]], dtype=torch.float64)
    logits = torch.tensor([0.3, -0.2, 0.5, 0.1], dtype=torch.float64, requires_grad=True)
    groups = torch.tensor(list(itertools.product(range(4), repeat=3)))
    log_prob_PG = logits.log_softmax(0)[groups]
    probability_P = log_prob_PG.sum(1).exp()
    (expected,) = torch.autograd.grad((probability_P * table[groups].amax(1).sum(1)).sum(), logits, retain_graph=True)
    advantage_PG = MaxAtK().reward(scores_of(table[groups]))
    estimator = (probability_P.detach() * (advantage_PG * log_prob_PG).sum(1)).sum()
    (ours,) = torch.autograd.grad(estimator, logits)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_gains_are_what_the_group_loses_without_an_image(generator: torch.Generator) -> None:
    """Oracle: the group's best with and without each image, by plain loops; scores with ties and below zero."""
    category = torch.randint(-3, 4, (4, 5, 6), generator=generator).float()
    gains = leave_one_out_gains(category, torch.ones(4, 5, dtype=torch.bool))
    for group, image, axis in itertools.product(range(4), range(5), range(6)):
        column = category[group, :, axis].tolist()
        without = [value for number, value in enumerate(column) if number != image]
        assert gains[group, image, axis] == max(column) - max(without)


def test_only_the_first_in_a_category_is_credited_and_a_copy_takes_the_credit_away() -> None:
    """By hand: categories (1, 0), (0.4, 0.5), (0, 0.5): 0.6 to the first, nothing to the two that tie."""
    category = torch.tensor([[[1.0, 0.0], [0.4, 0.5], [0.0, 0.5]]])
    torch.testing.assert_close(MaxAtK().reward(scores_of(category)), torch.tensor([[0.6, 0.0, 0.0]]))
    copied = torch.cat([category, category[:, :1]], dim=1)
    torch.testing.assert_close(MaxAtK().reward(scores_of(copied)), torch.zeros(1, 4))


def test_the_judges_reward_is_added_with_its_weight() -> None:
    category, reward = torch.tensor([[[1.0], [0.25]]]), torch.tensor([[2.0, 8.0]])
    ours = MaxAtK(reward_weight=0.5).reward(scores_of(category, reward))
    torch.testing.assert_close(ours, torch.tensor([[1.75, 4.0]]))


def test_images_that_are_not_valid_are_nobodys_rivals() -> None:
    """A NaN reward or NaN in any category: the image gets NaN, and its scores are out of the maxima.

    Catches in incentive/methods/max_at_k.py: an image that lacks one of its categories as a rival in the others.
    """
    category = torch.tensor([[[9.0], [1.0], [0.25], [torch.nan]], [[1.0], [2.0], [torch.nan], [torch.nan]]])
    reward = torch.tensor([[torch.nan, 0.0, 0.0, 0.0], [torch.nan, 0.0, 0.0, 0.0]])
    ours = MaxAtK().reward(scores_of(category, reward))
    expected = torch.tensor([[torch.nan, 0.75, 0.0, torch.nan], [torch.nan, 0.0, torch.nan, torch.nan]])
    torch.testing.assert_close(ours, expected, equal_nan=True)
    lacking = scores_of(torch.tensor([[[9.0, torch.nan], [1.0, 2.0], [0.25, 3.0]]]))
    torch.testing.assert_close(MaxAtK().reward(lacking), torch.tensor([[torch.nan, 0.75, 1.0]]), equal_nan=True)


def test_a_group_of_one_has_nothing_to_gain() -> None:
    assert MaxAtK().reward(scores_of(torch.ones(2, 1, 3))).tolist() == [[0.0], [0.0]]
