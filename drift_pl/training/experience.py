"""One iteration's rollout with its advantages: the data of an update."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Trajectory
from drift_pl.functional.advantage import counted
from drift_pl.incentive.prompting import VariedCondition


@dataclass(frozen=True)
class Experience:
    """One iteration's rollout with the advantage of each image.

    Attributes:
        batch: the prompts. What an update draws is a function of its `key` and `samples`.
        trajectory: B images on this process.
        condition: the conditions that they are learnt under, see `GroupSampling`.
        kept_PG: bool [P, G], False for images that were filtered out. Here and in the next two, P are the groups of the
            batch, of which this process may have a part of the images only.
        advantage_PG: float32 [P, G], or [K, P, G] if it differs from step to step.
        divergence_KPG: factor of the KL term, float32 [K, P, G], or None for 1 everywhere.
    """

    batch: PromptBatch
    trajectory: Trajectory
    condition: VariedCondition
    kept_PG: Tensor
    advantage_PG: Tensor
    divergence_KPG: Tensor | None

    @cached_property
    def advantage_KB(self) -> Tensor:
        """Of each image in each trained step, float32 [K, B]; one row where no step is trained."""
        advantage_KPG = self.advantage_PG.expand(max(len(self.trajectory.steps_K), 1), *self.kept_PG.shape)
        return self._own(advantage_KPG.flatten(1))

    @cached_property
    def counted_B(self) -> Tensor:
        """bool [B], True for images that are trained on; a group with fewer than two kept images has none."""
        return self._own(counted(self.kept_PG).flatten())

    @cached_property
    def divergence_KB(self) -> Tensor | None:
        """Factor of the KL term, float32 [K, B], or None."""
        return None if self.divergence_KPG is None else self._own(self.divergence_KPG.flatten(1))

    def _own(self, values_XB: Tensor) -> Tensor:
        """Of the images of the batch's groups those that are on this process."""
        split = self.batch.split
        return values_XB if split is None else values_XB[..., torch.tensor(split.samples, device=values_XB.device)]

    def shares(self, updates: int) -> list[Tensor]:
        """Rows of each optimizer step: equal shares, in order."""
        return list(torch.arange(len(self.condition)).chunk(updates))

    def micro_batches(self, rows_B: Tensor, size: int, skip_zero_advantage: bool) -> list[tuple[Tensor, Tensor]]:
        """Rows that count, with weight 1. If none does, one row of weight 0: every process must run a backward pass.

        Args:
            rows_B: of an optimizer step.
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
