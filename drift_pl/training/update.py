"""The update: clipped policy-gradient steps on the transitions that a rollout took."""

from collections.abc import Iterator
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor

from drift_pl.errors import UserError
from drift_pl.functional.losses import clipped_surrogate, gaussian_kl
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.rollout import ReplayedStep, Sampler, replay
from drift_pl.training.parallel import gradient_sync, world_size
from drift_pl.training.reporting import IterationReport
from drift_pl.types import Trajectory


@dataclass(frozen=True)
class Experience:
    """One iteration's rollout with what each image is worth.

    Attributes:
        trajectory: B images on this process.
        condition: the varied conditions they were sampled under.
        advantage_B: float32 [B].
        counted_B: bool [B], False for images that were filtered out.
    """

    trajectory: Trajectory
    condition: VariedCondition
    advantage_B: Tensor
    counted_B: Tensor

    def shares(self, updates: int) -> list[Tensor]:
        """Rows of each optimiser step: equal shares of whole groups, in order."""
        return list(torch.arange(len(self.condition)).chunk(updates))


@dataclass(frozen=True)
class ClippedUpdate:
    """Flow-GRPO's update (arXiv 2505.05470, eq. 5): clipped surrogate and, if asked, a KL term to the reference.

    Attributes:
        clip_range: clip of the ratio.
        kl_weight: beta >= 0.
        kl_form: `exact`, or `flow_grpo` (the exact one times the step length).
        inner_epochs: passes over the experience.
        updates: optimiser steps per pass.
        micro_batch: images per forward pass; the rollout's own, so that the first ratio is exactly 1.
        max_grad_norm: gradients are clipped to this norm.
    """

    clip_range: float
    kl_weight: float
    kl_form: str
    inner_epochs: int
    updates: int
    micro_batch: int
    max_grad_norm: float

    def run(
        self,
        module: L.LightningModule,
        policy: Policy,
        sampler: Sampler,
        experience: Experience,
        counts_U: Tensor,
        report: IterationReport,
    ) -> Iterator[None]:
        """Yields after the gradients of each optimiser step have been accumulated, for the caller to step.

        Args:
            counts_U: images that count in each optimiser step, summed over all processes.
            report: receives the policy's health.
        """
        for epoch in range(self.inner_epochs):
            for number, rows_B in enumerate(experience.shares(self.updates)):
                first = epoch == 0 and number == 0
                self._accumulate(module, policy, sampler, experience, rows_B, float(counts_U[number]), report, first)
                yield

    def _accumulate(
        self,
        module: L.LightningModule,
        policy: Policy,
        sampler: Sampler,
        experience: Experience,
        rows_B: Tensor,
        global_count: float,
        report: IterationReport,
        first: bool,
    ) -> None:
        num_steps = len(experience.trajectory.steps_K)
        # The gradient is averaged over processes, the loss is a mean over all images that count anywhere.
        scale = world_size() / (max(global_count, 1.0) * num_steps)
        micro_batches = self._micro_batches(experience, rows_B)
        for number, (part_B, weight_B) in enumerate(micro_batches):
            condition = experience.condition[part_B]
            for k in range(num_steps):
                last = number == len(micro_batches) - 1 and k == num_steps - 1
                step = replay(policy, sampler, experience.trajectory, k, part_B, condition, self.kl_weight > 0)
                loss_B = self._loss(step, experience, part_B, k, weight_B, report, first)
                with gradient_sync(module.trainer, last):
                    module.manual_backward((weight_B * loss_B).sum() * scale)

    def _loss(
        self,
        step: ReplayedStep,
        experience: Experience,
        rows_B: Tensor,
        k: int,
        weight_B: Tensor,
        report: IterationReport,
        first: bool,
    ) -> Tensor:
        old_log_prob_B = experience.trajectory.log_prob_KB[k, rows_B]
        loss_B, health = clipped_surrogate(
            step.log_prob_B, old_log_prob_B, experience.advantage_B[rows_B], self.clip_range
        )
        for name in ("clipped_high", "clipped_low", "approx_kl"):
            report.add(f"policy/{name}", health[name], weight_B)
        report.add_maximum("policy/ratio_deviation_max", health["ratio_deviation"], weight_B)
        if first:
            report.add_maximum("policy/ratio_deviation_first", health["ratio_deviation"], weight_B)
        if step.reference_mean_BCHW is not None:
            kl_B = gaussian_kl(step.mean_BCHW, step.reference_mean_BCHW, step.std)
            kl_B = kl_B * step.length if self.kl_form == "flow_grpo" else kl_B
            report.add("policy/kl", kl_B, weight_B)
            loss_B = loss_B + self.kl_weight * kl_B
        return loss_B

    def _micro_batches(self, experience: Experience, rows_B: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Rows that count with weight 1. If none does, one row of weight 0: every process must take part in the sum."""
        counted_B = rows_B[experience.counted_B[rows_B].cpu()]
        device = experience.advantage_B.device
        if len(counted_B) == 0:
            return [(rows_B[:1], torch.zeros(1, device=device))]
        return [(part_B, torch.ones(len(part_B), device=device)) for part_B in counted_B.split(self.micro_batch)]


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
