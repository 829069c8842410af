"""The update: clipped policy-gradient steps on the transitions that a rollout took."""

from collections.abc import Iterator
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.types import Trajectory
from drift_pl.functional.losses import (
    clipped_surrogate,
    gaussian_kl,
    normalised_log_ratio,
    normalised_step_weights,
    step_weight,
)
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.rollout import ReplayedStep, Sampler, replay
from drift_pl.training.experience import Experience, accumulate_gradients
from drift_pl.training.reporting import IterationReport


@dataclass(frozen=True)
class ClippedUpdate:
    """Flow-GRPO's update (arXiv 2505.05470, eq. 5): clipped surrogate and, if asked, a KL term to the reference.

    Attributes:
        clip_range: clip of the ratio.
        kl_weight: beta >= 0.
        kl_form: `exact`, `flow_grpo` (the exact one times the step length), or `mean` (half the squared distance of the
            means, as in DiverseGRPO: without the variance, which in late steps would weigh a deviation up).
        ratio: `plain`, or `guard` (GRPO-Guard's, see `normalised_log_ratio`; needs the trajectory's means).
        step_weights: `none`, `inverse_length`, `std`, see `step_weight`; the whole loss of a step is multiplied by it.
        trainable_steps: [first, end) of the steps that a window may cover, over which the weights have mean 1.
        skip_zero_advantage: leave images of zero advantage out of the forward passes. They have no gradient, so nothing
            but time depends on it; with a KL term every image has one, and none is left out.
        inner_epochs: passes over the experience.
        updates: optimiser steps per pass.
        micro_batch: images per forward pass; the rollout's own, so that the first ratio is exactly 1.
        max_grad_norm: gradients are clipped to this norm.
    """

    clip_range: float
    kl_weight: float
    kl_form: str
    ratio: str
    step_weights: str
    trainable_steps: tuple[int, int]
    skip_zero_advantage: bool
    inner_epochs: int
    updates: int
    micro_batch: int
    max_grad_norm: float

    @property
    def keep(self) -> frozenset[str]:
        """What it needs of a rollout besides, see `rollout`."""
        return frozenset({"means"} if self.ratio == "guard" else ())

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
        weight_T = self._step_weights(sampler)
        factors = [weight_T[step] for step in experience.trajectory.steps_K]
        skip = self.skip_zero_advantage and self.kl_weight == 0

        def loss(part_B: Tensor, weight_B: Tensor, k: int) -> Tensor:
            condition = experience.condition[part_B]
            step = replay(policy, sampler, experience.trajectory, k, part_B, condition, self.kl_weight > 0)
            return self._loss(step, experience, part_B, k, weight_B, report, first)

        micro_batches = experience.micro_batches(rows_B, self.micro_batch, skip)
        accumulate_gradients(module, micro_batches, factors, global_count, loss)

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
        log_ratio_B = self._log_ratio(step, experience.trajectory, k, rows_B)
        loss_B, health = clipped_surrogate(log_ratio_B, experience.advantage_KB[k, rows_B], self.clip_range)
        for name in ("clipped_high", "clipped_low", "approx_kl"):
            report.add(f"policy/{name}", health[name], weight_B)
        report.add_maximum("policy/ratio_deviation_max", health["ratio_deviation"], weight_B)
        if first:
            report.add_maximum("policy/ratio_deviation_first", health["ratio_deviation"], weight_B)
        if step.reference_mean_BCHW is not None:
            kl_B = self._divergence(step, step.reference_mean_BCHW)
            report.add("policy/kl", kl_B, weight_B)
            if experience.divergence_KB is not None:
                kl_B = kl_B * experience.divergence_KB[k, rows_B]
            loss_B = loss_B + self.kl_weight * kl_B
        return loss_B

    def _log_ratio(self, step: ReplayedStep, trajectory: Trajectory, k: int, rows_B: Tensor) -> Tensor:
        old_log_prob_B = trajectory.log_prob_KB[k, rows_B]
        if self.ratio == "plain":
            return step.log_prob_B - old_log_prob_B
        assert trajectory.mean_KBCHW is not None
        old_mean_BCHW = trajectory.mean_KBCHW[k, rows_B]
        return normalised_log_ratio(step.log_prob_B, old_log_prob_B, step.mean_BCHW, old_mean_BCHW, step.std)

    def _divergence(self, step: ReplayedStep, reference_mean_BCHW: Tensor) -> Tensor:
        std = torch.ones_like(step.std) if self.kl_form == "mean" else step.std
        kl_B = gaussian_kl(step.mean_BCHW, reference_mean_BCHW, std)
        return kl_B * step.length if self.kl_form == "flow_grpo" else kl_B

    def _step_weights(self, sampler: Sampler) -> list[float]:
        """Of every step of the grid that may be trained, wherever the window is now; their mean is 1."""
        weights = [step_weight(self.step_weights, *sampler.spread(step)) for step in range(*self.trainable_steps)]
        return [0.0] * self.trainable_steps[0] + normalised_step_weights(torch.stack(weights)).tolist()
