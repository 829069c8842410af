"""The data of an update: which images count, and in which passes."""

from functools import partial

import pytest
import torch

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Condition, Trajectory
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.training.experience import Experience
from drift_pl.training.updates.clipped import ClippedUpdate
from drift_pl.training.updates.nft import NftUpdate
from drift_pl.training.updates.passes import Loss, Passes
from drift_pl.training.updates.protocol import UpdateContext

KEPT = torch.tensor([[True, True, False], [False, True, False], [True, True, True]])
ADVANTAGE = torch.tensor([[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.0, -0.5]])


def experience_of(advantage: torch.Tensor = ADVANTAGE, divergence: torch.Tensor | None = None) -> Experience:
    """Three groups of three images, two trained steps; the second group keeps one image alone."""
    images, states = torch.zeros(9, 3, 2, 2), torch.zeros(3, 9, 4, 2, 2)
    trajectory = Trajectory(states, torch.zeros(2, 9), (1, 2), 4, states[-1], images)
    condition = VariedCondition(Condition(torch.zeros(9, 5, 6), None, torch.full((5,), 6)))
    batch = PromptBatch(0, 0, ("a", "b", "c"), groups=(0, 1, 2), group_size=3)
    return Experience(batch, trajectory, condition, KEPT, advantage, divergence)


def rows_of(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[tuple[list[int], list[float]]]:
    return [(rows.tolist(), weights.tolist()) for rows, weights in batches]


def test_images_of_a_group_that_keeps_one_do_not_count() -> None:
    batches = experience_of().micro_batches(torch.arange(9), 2, skip_zero_advantage=False)
    assert rows_of(batches) == [([0, 1], [1, 1]), ([6, 7], [1, 1]), ([8], [1])]


def test_images_of_zero_advantage_are_left_out_if_asked() -> None:
    assert rows_of(experience_of().micro_batches(torch.arange(9), 4, True)) == [([0, 1, 6, 8], [1, 1, 1, 1])]


def test_an_image_counts_if_any_step_has_an_advantage() -> None:
    stepwise = torch.stack([torch.zeros(3, 3), ADVANTAGE])
    assert rows_of(experience_of(stepwise).micro_batches(torch.arange(9), 4, True)) == [([0, 1, 6, 8], [1, 1, 1, 1])]


def test_where_no_image_counts_one_takes_part_without_weight() -> None:
    """A process that skipped its backward pass would leave the others waiting for its gradient."""
    assert rows_of(experience_of().micro_batches(torch.arange(3, 6), 2, False)) == [([3], [0])]


def test_every_step_has_the_images_own_advantage_unless_they_differ() -> None:
    assert torch.equal(experience_of().advantage_KB, ADVANTAGE.flatten().repeat(2, 1))
    stepwise = torch.stack([ADVANTAGE, 2 * ADVANTAGE])
    assert torch.equal(experience_of(stepwise).advantage_KB, stepwise.view(2, 9))


def test_factors_of_the_divergence_are_in_the_order_of_images() -> None:
    assert experience_of().divergence_KB is None
    factor = torch.arange(18.0).view(2, 3, 3)
    assert torch.equal(experience_of(divergence=factor).divergence_KB, torch.arange(18.0).view(2, 9))


@pytest.mark.parametrize(("updates", "sizes"), [(1, [9]), (3, [3, 3, 3])])
def test_optimiser_steps_share_the_images_in_order(updates: int, sizes: list[int]) -> None:
    shares = experience_of().shares(updates)
    assert [len(share) for share in shares] == sizes
    assert torch.equal(torch.cat(shares), torch.arange(9))


class Mine(Passes):
    """An update that does not say whether it does."""

    def loss(self, context: UpdateContext) -> Loss:
        raise NotImplementedError


def test_zero_advantage_has_no_gradient_where_the_update_says_so() -> None:
    """nft pulls such images back to the old policy from its second step on; another update may learn from them.

    Catches in training/updates/nft.py: images of zero advantage left out of later steps.
    """
    common = {"inner_epochs": 1, "updates": 2, "micro_batch": 4, "skip_zero_advantage": True}
    nft = partial(NftUpdate, **common, nft_times=1, nft_beta=1.0, advantage_clip=5.0)
    surrogate = partial(
        ClippedUpdate,
        **common,
        clip_range=1e-4,
        kl_form="exact",
        ratio="plain",
        step_weights="none",
        trainable_steps=(0, 1),
    )

    def passed(update: Passes, first: bool) -> int:
        return sum(len(rows) for rows, _ in update.micro_batches(experience_of(), torch.arange(9), first))

    assert [passed(nft(kl_weight=0.0), first) for first in (True, False)] == [4, 5]
    assert [passed(nft(kl_weight=0.1), first) for first in (True, False)] == [5, 5]
    assert [passed(surrogate(kl_weight=0.0), first) for first in (True, False)] == [4, 4]
    assert [passed(surrogate(kl_weight=0.1), first) for first in (True, False)] == [5, 5]
    assert [passed(Mine(**common, kl_weight=0.0), first) for first in (True, False)] == [5, 5]
