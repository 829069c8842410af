"""The clipped update: policy-gradient steps on the transitions of the rollout.

Levers: they act on each trained step, by its advantage (selection, shaping, which may differ from step to step) and by
the condition that it was sampled and is replayed under (prompting).

For each micro-batch and trained step: replay the step with gradients, form the ratio to the rollout's log-probability,
and take the clipped surrogate, plus a KL term to the reference if its weight is positive. `Passes` accumulates the
gradients.
"""

from abc import abstractmethod
from collections.abc import Callable
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
from drift_pl.sampling.rollout import ReplayedStep, replay
from drift_pl.sampling.sampler import Sampler
from drift_pl.training.updates.passes import Passes
from drift_pl.training.updates.protocol import UpdateContext


@dataclass(frozen=True)
class StepsUpdate(Passes):
    """An update by the ratio of each trained step's density to that of the rollout, optionally with a KL term.

    Attributes:
        kl_form: `exact`, `flow_grpo` (the exact one times the step length, but for steps whose std has no length in it,
            `StochasticStep.std_has_length`), or `mean` (half the squared distance of the means, as in DiverseGRPO:
            without the variance, which in late steps would over-weight deviations).
        ratio: `plain`; `guard` (GRPO-Guard's, see `normalised_log_ratio`; needs the trajectory's means); or
            `unscaled`, of densities without the factor 1 / (2 std^2), as in Flow-CPS's code: log r times 2 std^2.
        step_weights: `none`, `inverse_length`, `std`, see `step_weight`; the whole loss of a step is multiplied by it.
        trainable_steps: [first, end) of the steps that a window may cover, over which the weights have mean 1.
        inner_epochs, updates, micro_batch, skip_zero_advantage, kl_weight: see `Passes`.
    """

    kl_form: str
    ratio: str
    step_weights: str
    trainable_steps: tuple[int, int]

    @property
    def keep(self) -> frozenset[str]:
        """What the rollout stores in addition, see `rollout`."""
        return frozenset({"means"} if self.ratio == "guard" else ())

    @abstractmethod
    def surrogate(
        self, log_ratio_B: Tensor, advantage_B: Tensor, kl: Callable[[], Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step without the KL to the reference, [b], and what is reported of it.

        Args:
            kl: the divergence from the policy that sampled, [b]; needs the trajectory's means.
        """

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


@dataclass(frozen=True, kw_only=True)
class ClippedUpdate(StepsUpdate):
    """Flow-GRPO's update (arXiv 2505.05470, eq. 5): clipped surrogate, optionally with a KL term to the reference.

    Attributes:
        clip_range: clip of the ratio.
        others: see `StepsUpdate`.
    """

    clip_range: float

    def surrogate(
        self, log_ratio_B: Tensor, advantage_B: Tensor, kl: Callable[[], Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `StepsUpdate.surrogate`."""
        return clipped_surrogate(log_ratio_B, advantage_B, self.clip_range)


@dataclass(frozen=True)
class SurrogateLoss:
    """The loss of one run; its passes are the trained steps, with weights `factors`."""

    update: StepsUpdate
    context: UpdateContext
    factors: list[float]

    def __call__(self, rows_B: Tensor, weight_B: Tensor, n: int, first: bool) -> Tensor:
        """See `Loss`."""
        experience, policy, sampler = self.context.experience, self.context.policy, self.context.sampler
        condition, with_reference = experience.condition[rows_B], self.update.kl_weight > 0
        rows_B = to_device(rows_B, weight_B.device)
        step = replay(policy, sampler, experience.trajectory, n, rows_B, condition, with_reference)
        log_ratio_B, advantage_B = self._log_ratio(step, rows_B, n), experience.advantage_KB[n, rows_B]
        loss_B, health = self.update.surrogate(log_ratio_B, advantage_B, lambda: self._moved(step, rows_B, n))
        self._report(health, weight_B, first)
        if step.reference_mean_BCHW is not None:
            kl_B = self._divergence(step, step.reference_mean_BCHW)
            loss_B = loss_B + self.update.divergence(self.context, kl_B, rows_B, weight_B, n)
        return loss_B

    def _report(self, health: dict[str, Tensor], weight_B: Tensor, first: bool) -> None:
        report, deviation_B = self.context.report, health["ratio_deviation"]
        for name in (name for name in health if name != "ratio_deviation"):
            report.add(f"policy/{name}", health[name], weight_B)
        report.add_maximum("policy/ratio_deviation_max", deviation_B, weight_B)
        if first:
            report.add_maximum("policy/ratio_deviation_first", deviation_B, weight_B)
            if "kl_old" in health:
                report.add_maximum("policy/kl_old_first", health["kl_old"], weight_B)

    def _log_ratio(self, step: ReplayedStep, rows_B: Tensor, n: int) -> Tensor:
        trajectory = self.context.experience.trajectory
        old_log_prob_B = trajectory.log_prob_KB[n, rows_B]
        if self.update.ratio == "plain":
            return step.log_prob_B - old_log_prob_B
        if self.update.ratio == "unscaled":
            return (step.log_prob_B - old_log_prob_B) * (2 * step.std.square())
        assert trajectory.mean_KBCHW is not None
        old_mean_BCHW = trajectory.mean_KBCHW[n, rows_B]
        return normalised_log_ratio(step.log_prob_B, old_log_prob_B, step.mean_BCHW, old_mean_BCHW, step.std)

    def _moved(self, step: ReplayedStep, rows_B: Tensor, n: int) -> Tensor:
        """KL(old || new) of the step, [b]."""
        mean_KBCHW = self.context.experience.trajectory.mean_KBCHW
        assert mean_KBCHW is not None
        return gaussian_kl(step.mean_BCHW, mean_KBCHW[n, rows_B], step.std)

    def _divergence(self, step: ReplayedStep, reference_mean_BCHW: Tensor) -> Tensor:
        form = self.update.kl_form
        std = torch.ones_like(step.std) if form == "mean" else step.std
        kl_B = gaussian_kl(step.mean_BCHW, reference_mean_BCHW, std)
        stochastic = self.context.sampler.stochastic
        assert stochastic is not None
        return kl_B * step.length if form == "flow_grpo" and stochastic.std_has_length else kl_B
