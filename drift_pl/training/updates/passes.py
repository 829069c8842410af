"""The loop that updates share: passes over an iteration's images, optimizer steps, gradient accumulation."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch
from torch import Tensor

from drift_pl.core.answers import of_shape, wrong_answer
from drift_pl.core.errors import UserError
from drift_pl.core.processes import world_size
from drift_pl.policies.sharding import common_passes
from drift_pl.training.ema import Lag
from drift_pl.training.experience import Experience
from drift_pl.training.parallel import gradient_sync
from drift_pl.training.updates.protocol import UpdateContext

KL = "policy/kl"


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
    """An update in passes over the images, each split into equal optimizer steps; a subclass defines the loss.

    Attributes:
        inner_epochs: passes over the experience.
        updates: optimizer steps per pass.
        micro_batch: images per forward pass, as in the rollout, so that the first ratio is exactly 1.
        skip_zero_advantage: skip images of zero advantage where they have no gradient (see `idle_at_zero`), so that
            this affects speed only.
        kl_weight: beta >= 0, weight of the divergence from the reference.
    """

    inner_epochs: int
    updates: int
    micro_batch: int
    skip_zero_advantage: bool
    kl_weight: float

    @property
    def keep(self) -> frozenset[str]:
        """What the rollout stores in addition, see `rollout`."""
        return frozenset()

    @property
    def lag(self) -> Lag | None:
        """How an old policy lags behind, if the update has one."""
        return None

    def idle_at_zero(self, first: bool) -> bool:
        """Whether an image of zero advantage has no gradient; False unless a subclass knows better.

        Args:
            first: whether the policy is still the one that sampled.
        """
        return False

    @abstractmethod
    def loss(self, context: UpdateContext) -> Loss:
        """The loss of one run, made before the first optimizer step."""

    def run(self, context: UpdateContext) -> Iterator[None]:
        """Yields when the gradients of an optimizer step are accumulated, for the caller to clip and step."""
        loss, first = self.loss(context), True
        if not callable(loss) or not hasattr(loss, "factors"):
            raise UserError(
                f"objective.loss: {type(self).__name__}.loss returned {type(loss).__name__}: return a Loss, which has "
                "factors and is called with the images of each pass"
            )
        for _ in range(self.inner_epochs):
            for share in range(self.updates):
                self._accumulate(context, loss, share, first)
                yield
                first = False
        if self.kl_weight > 0 and KL not in context.report:
            warnings.warn(
                f"objective.kl_weight={self.kl_weight:g} has no effect: the loss of objective.loss has not called "
                "`divergence`, which gives the KL term",
                stacklevel=1,
            )

    def passes(self, context: UpdateContext, share: int, first: bool) -> list[tuple[Tensor, Tensor]]:
        """Rows and weights of each forward pass of an optimizer step.

        All processes pass a sharded network together, so each makes as many passes as the one that has most, the
        further ones with weight 0. They agree on the number once.
        """
        rows_B = context.experience.shares(self.updates)[share]
        parts = self.micro_batches(context.experience, rows_B, first)
        device = parts[0][1].device
        if (share, first) not in context.agreed:
            context.agreed[share, first] = common_passes(context.policy.network, len(parts), device)
        further = context.agreed[share, first] - len(parts)
        return parts + [(rows_B[:1], torch.zeros(1, device=device))] * further

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
        context.report.add(KL, kl_B, weight_B)
        if context.experience.divergence_KB is not None:
            kl_B = kl_B * context.experience.divergence_KB[k, rows_B]
        return self.kl_weight * kl_B

    def _accumulate(self, context: UpdateContext, loss: Loss, share: int, first: bool) -> None:
        """Gradients of an optimizer step: of the loss averaged over passes and over the images on all processes."""
        count = max(float(context.counts_U[share]), 1.0)
        scale = world_size() / (count * len(loss.factors))  # the gradient is averaged over processes
        jobs = list(product(self.passes(context, share, first), enumerate(loss.factors)))
        for number, ((part_B, weight_B), (n, factor)) in enumerate(jobs, start=1):
            loss_B = _checked(loss(part_B, weight_B, n, first), weight_B)
            with gradient_sync(context.module.trainer, last=number == len(jobs)):
                context.module.manual_backward((weight_B * loss_B).sum() * (scale * factor))


def _checked(loss: object, weight_B: Tensor) -> Tensor:
    """What a loss, perhaps somebody's, has returned.

    Raises:
        UserError: it is not a loss with a gradient for each image.
    """
    what, wanted = "objective.loss: the loss", f"a loss with a gradient for each of {len(weight_B)} images"
    loss_B = of_shape(what, loss, weight_B.shape, wanted)
    if not loss_B.requires_grad:
        raise wrong_answer(what, "numbers without a gradient", f"{len(weight_B)}", wanted)
    return loss_B
