"""What an update learns from, and what every update does with its losses: gradients added up, their norm clipped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.types import Trajectory
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.training.parallel import gradient_sync, world_size


@dataclass(frozen=True)
class Experience:
    """One iteration's rollout with what each image is worth.

    Attributes:
        trajectory: B images on this process.
        condition: the varied conditions they were sampled under.
        advantage_KB: float32 [K, B], of each image in each trained step.
        counted_B: bool [B], False for images that were filtered out.
        key: (seed, iteration), and
        samples: the images' global indices, B of them: what an update draws is a function of these.
        divergence_KB: factor of the KL term, float32 [K, B], or None for 1 everywhere.
    """

    trajectory: Trajectory
    condition: VariedCondition
    advantage_KB: Tensor
    counted_B: Tensor
    key: tuple[int, int]
    samples: Sequence[int]
    divergence_KB: Tensor | None = None

    def shares(self, updates: int) -> list[Tensor]:
        """Rows of each optimiser step: equal shares of whole groups, in order."""
        return list(torch.arange(len(self.condition)).chunk(updates))

    def micro_batches(self, rows_B: Tensor, size: int, skip_zero_advantage: bool) -> list[tuple[Tensor, Tensor]]:
        """Rows that count with weight 1. If none does, one row of weight 0: every process must take part in the sum.

        Args:
            rows_B: of an optimiser step.
            size: images per forward pass.
            skip_zero_advantage: leave images of zero advantage out.
        """
        active_B = self.counted_B
        if skip_zero_advantage:
            active_B = active_B & (self.advantage_KB != 0).any(0)
        counted_B = rows_B[active_B[rows_B].cpu()]
        device = active_B.device
        if len(counted_B) == 0:
            return [(rows_B[:1], torch.zeros(1, device=device))]
        return [(part_B, torch.ones(len(part_B), device=device)) for part_B in counted_B.split(size)]


def accumulate_gradients(
    module: L.LightningModule,
    micro_batches: Sequence[tuple[Tensor, Tensor]],
    factors: Sequence[float],
    global_count: float,
    loss: Callable[[Tensor, Tensor, int], Tensor],
) -> None:
    """Adds up the gradients of an optimiser step: of the mean loss over passes and all images that count anywhere.

    Args:
        micro_batches: see `Experience.micro_batches`.
        factors: of each pass over an image (a sampling step, a noise level).
        global_count: images that count, summed over all processes.
        loss: rows [b], their weights [b] and the number of the pass -> losses [b].
    """
    scale = world_size() / (max(global_count, 1.0) * len(factors))  # the gradient is averaged over processes
    for number, (part_B, weight_B) in enumerate(micro_batches):
        for n, factor in enumerate(factors):
            last = number == len(micro_batches) - 1 and n == len(factors) - 1
            loss_B = loss(part_B, weight_B, n)
            with gradient_sync(module.trainer, last):
                module.manual_backward((weight_B * loss_B).sum() * (scale * factor))


def clip_gradients(module: L.LightningModule, max_norm: float, iteration: int) -> Tensor:
    """Clips the gradient's norm in place and returns what it was.

    Raises:
        UserError: it is not finite; the optimiser has not stepped.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    if not norm.isfinite():
        raise UserError(
            f"iteration {iteration}: the gradient is not finite; the state before this iteration was saved as "
            "last.ckpt. Lower objective.learning_rate, or use trainer.precision=32-true, and resume with ckpt_path=last"
        )
    return norm
