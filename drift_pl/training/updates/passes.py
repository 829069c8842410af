"""Passes over an iteration's images, which updates share: optimiser steps, micro-batches, gradients added up."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import lightning as L
from torch import Tensor

from drift_pl.training.experience import Experience
from drift_pl.training.parallel import gradient_sync, world_size
from drift_pl.training.updates.protocol import UpdateContext


class Loss(Protocol):
    """The loss of one run of an update.

    Attributes:
        factors: weight of each pass over an image (a trained step, a noise level).
    """

    @property
    def factors(self) -> Sequence[float]: ...

    def __call__(self, rows_B: Tensor, weight_B: Tensor, n: int, first: bool) -> Tensor:
        """Losses with gradient, float32 [b].

        Args:
            rows_B: the images, rows of the experience: int64 [b].
            weight_B: 0 for an image that does not count, 1 for the others.
            n: number of the pass.
            first: whether the policy is still the one that sampled.
        """
        ...


@dataclass(frozen=True)
class Passes(ABC):
    """An update in passes over the images, each in equal optimiser steps; a subclass says what the loss is.

    Attributes:
        inner_epochs: passes over the experience.
        updates: optimiser steps per pass.
        micro_batch: images per forward pass; the rollout's own, so that the first ratio is exactly 1.
        skip_zero_advantage: leave images of zero advantage out of the forward passes where they have no gradient (see
            `idle_at_zero`), so that this affects speed only.
        kl_weight: beta >= 0, weight of the divergence from the reference.
    """

    inner_epochs: int
    updates: int
    micro_batch: int
    skip_zero_advantage: bool
    kl_weight: float

    @property
    def keep(self) -> frozenset[str]:
        """What it needs of a rollout besides, see `rollout`."""
        return frozenset()

    def idle_at_zero(self, first: bool) -> bool:
        """Whether an image of zero advantage has no gradient; False unless a subclass knows better.

        Args:
            first: whether the policy is still the one that sampled.
        """
        return False

    @abstractmethod
    def loss(self, context: UpdateContext) -> Loss:
        """The loss of one run, before the first optimiser step."""

    def run(self, context: UpdateContext) -> Iterator[None]:
        """Yields when the gradients of an optimiser step are accumulated, for the caller to clip and step."""
        loss, first = self.loss(context), True
        for _ in range(self.inner_epochs):
            for number, rows_B in enumerate(context.experience.shares(self.updates)):
                micro_batches = self.micro_batches(context.experience, rows_B, first)
                accumulate_gradients(context.module, micro_batches, loss, float(context.counts_U[number]), first)
                yield
                first = False

    def micro_batches(self, experience: Experience, rows_B: Tensor, first: bool) -> list[tuple[Tensor, Tensor]]:
        """Rows and weights of each forward pass, see `Experience.micro_batches`."""
        skip = self.skip_zero_advantage and self.idle_at_zero(first)
        return experience.micro_batches(rows_B, self.micro_batch, skip)

    def divergence(self, context: UpdateContext, kl_B: Tensor, rows_B: Tensor, weight_B: Tensor, k: int) -> Tensor:
        """The KL term of the loss, float32 [b]; reports `policy/kl`.

        Args:
            kl_B: divergence from the reference.
            k: the trained step whose factor it gets, see `Experience.divergence_KB`.
        """
        context.report.add("policy/kl", kl_B, weight_B)
        if context.experience.divergence_KB is not None:
            kl_B = kl_B * context.experience.divergence_KB[k, rows_B]
        return self.kl_weight * kl_B


def accumulate_gradients(
    module: L.LightningModule,
    micro_batches: Sequence[tuple[Tensor, Tensor]],
    loss: Loss,
    global_count: float,
    first: bool,
) -> None:
    """Adds up the gradients of an optimiser step: of the loss averaged over passes and all images on all processes.

    Args:
        micro_batches: see `Experience.micro_batches`.
        global_count: images that count, summed over all processes.
        first: whether the policy is still the one that sampled.
    """
    scale = world_size() / (max(global_count, 1.0) * len(loss.factors))  # the gradient is averaged over processes
    for number, (part_B, weight_B) in enumerate(micro_batches):
        for n, factor in enumerate(loss.factors):
            last = number == len(micro_batches) - 1 and n == len(loss.factors) - 1
            loss_B = loss(part_B, weight_B, n, first)
            with gradient_sync(module.trainer, last):
                module.manual_backward((weight_B * loss_B).sum() * (scale * factor))
