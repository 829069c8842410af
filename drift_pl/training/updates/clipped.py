"""The clipped update: policy-gradient steps on the transitions of the rollout.

For each micro-batch and trained step: replay the step with gradients, form the ratio to the rollout's log-probability,
and take the clipped surrogate, plus a KL term to the reference if its weight is positive. `Passes` accumulates the
gradients.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.rng import to_device
from drift_pl.functional.losses import (
    clipped_surrogate,
    gaussian_kl,
    normalised_log_ratio,
    normalised_step_weights,
    step_weight,
)
from drift_pl.sampling.rollout import ReplayedStep, Sampler, replay
from drift_pl.training.updates.passes import Passes
from drift_pl.training.updates.protocol import UpdateContext


@dataclass(frozen=True)
class ClippedUpdate(Passes):
    """Flow-GRPO's update (arXiv 2505.05470, eq. 5): clipped surrogate, optionally with a KL term to the reference.

    Attributes:
        clip_range: clip of the ratio.
        kl_form: `exact`, `flow_grpo` (the exact one times the step length, but for steps whose std has no length in it,
            `StochasticStep.std_has_length`), or `mean` (half the squared distance of the means, as in DiverseGRPO:
            without the variance, which in late steps would over-weight deviations).
        ratio: `plain`, or `guard` (GRPO-Guard's, see `normalised_log_ratio`; needs the trajectory's means).
        step_weights: `none`, `inverse_length`, `std`, see `step_weight`; the whole loss of a step is multiplied by it.
        trainable_steps: [first, end) of the steps that a window may cover, over which the weights have mean 1.
        inner_epochs, updates, micro_batch, skip_zero_advantage, kl_weight: see `Passes`.
    """

    clip_range: float
    kl_form: str
    ratio: str
    step_weights: str
    trainable_steps: tuple[int, int]

    @property
    def keep(self) -> frozenset[str]:
        """What the rollout stores in addition, see `rollout`."""
        return frozenset({"means"} if self.ratio == "guard" else ())

    def idle_at_zero(self, first: bool) -> bool:
        """In every optimizer step: the surrogate is A times a function of the ratio."""
        return self.kl_weight == 0

    def loss(self, context: UpdateContext) -> "SurrogateLoss":
        weight_T = self._step_weights(context.sampler)
        return SurrogateLoss(self, context, [weight_T[step] for step in context.experience.trajectory.steps_K])

    def _step_weights(self, sampler: Sampler) -> list[float]:
        """Weights of all trainable steps of the grid, not only of the current window; their mean is 1."""
        weights = [step_weight(self.step_weights, *sampler.spread(step)) for step in range(*self.trainable_steps)]
        return [0.0] * self.trainable_steps[0] + normalised_step_weights(torch.stack(weights)).tolist()


@dataclass(frozen=True)
class SurrogateLoss:
    """The loss of one run; its passes are the trained steps, with weights `factors`."""

    update: ClippedUpdate
    context: UpdateContext
    factors: list[float]

    def __call__(self, rows_B: Tensor, weight_B: Tensor, n: int, first: bool) -> Tensor:
        """See `Loss`."""
        experience, policy, sampler = self.context.experience, self.context.policy, self.context.sampler
        condition, with_reference = experience.condition[rows_B], self.update.kl_weight > 0
        rows_B = to_device(rows_B, weight_B.device)
        step = replay(policy, sampler, experience.trajectory, n, rows_B, condition, with_reference)
        loss_B, health = clipped_surrogate(
            self._log_ratio(step, rows_B, n), experience.advantage_KB[n, rows_B], self.update.clip_range
        )
        self._report(health, weight_B, first)
        if step.reference_mean_BCHW is not None:
            kl_B = self._divergence(step, step.reference_mean_BCHW)
            loss_B = loss_B + self.update.divergence(self.context, kl_B, rows_B, weight_B, n)
        return loss_B

    def _report(self, health: dict[str, Tensor], weight_B: Tensor, first: bool) -> None:
        report, deviation_B = self.context.report, health["ratio_deviation"]
        for name in ("clipped_high", "clipped_low", "approx_kl"):
            report.add(f"policy/{name}", health[name], weight_B)
        report.add_maximum("policy/ratio_deviation_max", deviation_B, weight_B)
        if first:
            report.add_maximum("policy/ratio_deviation_first", deviation_B, weight_B)

    def _log_ratio(self, step: ReplayedStep, rows_B: Tensor, n: int) -> Tensor:
        trajectory = self.context.experience.trajectory
        old_log_prob_B = trajectory.log_prob_KB[n, rows_B]
        if self.update.ratio == "plain":
            return step.log_prob_B - old_log_prob_B
        assert trajectory.mean_KBCHW is not None
        old_mean_BCHW = trajectory.mean_KBCHW[n, rows_B]
        return normalised_log_ratio(step.log_prob_B, old_log_prob_B, step.mean_BCHW, old_mean_BCHW, step.std)

    def _divergence(self, step: ReplayedStep, reference_mean_BCHW: Tensor) -> Tensor:
        form = self.update.kl_form
        std = torch.ones_like(step.std) if form == "mean" else step.std
        kl_B = gaussian_kl(step.mean_BCHW, reference_mean_BCHW, std)
        stochastic = self.context.sampler.stochastic
        assert stochastic is not None
        return kl_B * step.length if form == "flow_grpo" and stochastic.std_has_length else kl_B
