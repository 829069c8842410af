"""Rollout and replay: sample images and recompute step log-probabilities.

`rollout` samples images and keeps the states and log-probabilities of the trained steps. `replay` computes the same
steps with the policy of now, with gradients; the ratio of both log-probabilities is what the clipped update needs.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.rng import normal_per_sample
from drift_pl.core.types import Condition, Trajectory
from drift_pl.functional.guidance import aig_weight, mix_predictions
from drift_pl.functional.transition import gaussian_log_prob
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.stochastic import StochasticStep


@dataclass(frozen=True)
class Transition:
    """A stochastic step as a policy would take it.

    Attributes:
        mean_BCHW, std: of the Gaussian that the next state is drawn from; the policy does not change the std.
        predicted_BCHW: the clean latents that the policy expects, see `Process.clean`.
    """

    mean_BCHW: Tensor
    std: Tensor
    predicted_BCHW: Tensor

    def drawn(self, generators: Sequence[torch.Generator]) -> Tensor:
        """A next state, [B, C, H, W]; the noise of row b comes from `generators[b]` alone."""
        noise_BCHW = normal_per_sample(generators, self.mean_BCHW.shape[1:], self.mean_BCHW.device)
        return self.mean_BCHW + self.std * noise_BCHW


@dataclass(frozen=True)
class Sampler:
    """How a policy is sampled; `Policy.process` defines what its noise levels and predictions mean.

    Attributes:
        sigmas: noise levels of the grid, [T + 1], falling; see `Policy.sigmas`.
        guidance_scale: of rollouts and training.
        negative: condition of the unconditional branch, one row.
        stochastic: the steps with noise; None for deterministic sampling alone.
        importance_power: p of annealed importance guidance (arXiv 2409.06493), which mixes in the reference's
            prediction: all of it at pure noise, less and less towards the image. None for the policy alone.
        last_step_noise: a rollout's last step has noise although it is not trained, as in flow_grpo's runs of FLUX.
    """

    sigmas: Tensor
    guidance_scale: float
    negative: Condition
    stochastic: StochasticStep | None = None
    importance_power: float | None = None
    last_step_noise: bool = False

    @property
    def num_steps(self) -> int:
        return len(self.sigmas) - 1

    def prediction(self, policy: Policy, latents_BCHW: Tensor, step: int, condition: VariedCondition) -> Tensor:
        """The policy's guided prediction, with the reference's mixed in if `importance_power` is set."""
        time = policy.process.time(self.sigmas[step])
        inputs = (latents_BCHW, self.sigmas[step], condition.at(time), self.negative, self.guidance_scale)
        prediction = policy.predict(*inputs)
        if self.importance_power is None:
            return prediction
        with policy.reference():
            base = policy.predict(*inputs)
        return mix_predictions(base, prediction, aig_weight(1 - time, self.importance_power))

    def transition(self, policy: Policy, latents_BCHW: Tensor, step: int, condition: VariedCondition) -> Transition:
        """Stochastic step number `step`."""
        assert self.stochastic is not None
        prediction = self.prediction(policy, latents_BCHW, step, condition)
        mean_BCHW, std = self.stochastic.step(latents_BCHW, prediction, self.sigmas, step)
        return Transition(mean_BCHW, std, policy.process.clean(latents_BCHW, prediction, self.sigmas[step]))

    def untrained_step(
        self,
        policy: Policy,
        latents_BCHW: Tensor,
        step: int,
        condition: VariedCondition,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """The state after a rollout's step number `step` outside of the window."""
        if not self.last_step_noise or step != self.num_steps - 1:
            return self.deterministic_step(policy, latents_BCHW, step, condition)
        transition = self.transition(policy, latents_BCHW, step, condition)
        return transition.drawn(generators)

    def spread(self, step: int) -> tuple[Tensor, Tensor]:
        """Standard deviation and length sigma - sigma_next of stochastic step number `step`."""
        assert self.stochastic is not None
        return self.stochastic.spread(self.sigmas, step), self.sigmas[step] - self.sigmas[step + 1]

    def deterministic_step(self, policy: Policy, latents_BCHW: Tensor, step: int, condition: VariedCondition) -> Tensor:
        """The state after step number `step`, without noise."""
        prediction = self.prediction(policy, latents_BCHW, step, condition)
        levels = (self.sigmas[step], self.sigmas[step + 1])
        return policy.process.deterministic_step(latents_BCHW, prediction, *levels)


@torch.no_grad()
def sample_ode(
    policy: Policy, sampler: Sampler, noise_BCHW: Tensor, condition: VariedCondition, end: int | None = None
) -> Tensor:
    """Deterministic samples, latents float32 [B, C, H, W], from the given noise: the evaluation sampler.

    Args:
        end: stop before this step and return the intermediate latents; None: take all steps.
    """
    latents_BCHW = noise_BCHW
    for step in range(sampler.num_steps if end is None else end):
        latents_BCHW = sampler.deterministic_step(policy, latents_BCHW, step, condition)
    return latents_BCHW


@torch.no_grad()
def rollout(
    policy: Policy,
    sampler: Sampler,
    condition: VariedCondition,
    window: Sequence[int],
    latents_BCHW: Tensor,
    generators: Sequence[torch.Generator],
    first_step: int = 0,
    keep: Collection[str] = (),
) -> Trajectory:
    """Samples images: stochastic steps inside `window`, deterministic ones outside, but see `last_step_noise`.

    Args:
        condition: one row per image.
        window: the trained steps, ascending and contiguous.
        latents_BCHW: states before `first_step`, float32; before step 0 standard normal noise.
        generators: one per image, on the CPU; image b's step noise comes from `generators[b]` alone.
        keep: what the trajectory stores in addition, of `means` and `predictions`.
    """
    latents_BCHW = latents_BCHW.float()
    states: list[Tensor] = []
    log_probs: list[Tensor] = []
    means: list[Tensor] = []
    predictions: list[Tensor] = []
    for step in range(first_step, sampler.num_steps):
        if step not in window:
            latents_BCHW = sampler.untrained_step(policy, latents_BCHW, step, condition, generators)
            continue
        if not states:
            states.append(latents_BCHW)
        transition = sampler.transition(policy, latents_BCHW, step, condition)
        latents_BCHW = transition.drawn(generators)
        log_probs.append(gaussian_log_prob(latents_BCHW, transition.mean_BCHW, transition.std))
        states.append(latents_BCHW)
        if "means" in keep:
            means.append(transition.mean_BCHW)
        if "predictions" in keep:
            predictions.append(transition.predicted_BCHW)
    return Trajectory(
        torch.stack(states),
        torch.stack(log_probs),
        tuple(window),
        sampler.num_steps,
        latents_BCHW,
        policy.decode(latents_BCHW),
        torch.stack(means) if means else None,
        torch.stack(predictions) if predictions else None,
    )


@dataclass(frozen=True)
class ReplayedStep:
    """A trained step under the current policy (with gradient) and the reference (without).

    Attributes:
        log_prob_B: float32 [B], with gradient.
        mean_BCHW: mean of the step, with gradient.
        reference_mean_BCHW: mean under the reference model, or None if not requested.
        std: standard deviation of the step; the policy does not change it.
        length: sigma - sigma_next.
    """

    log_prob_B: Tensor
    mean_BCHW: Tensor
    reference_mean_BCHW: Tensor | None
    std: Tensor
    length: Tensor


def replay(
    policy: Policy,
    sampler: Sampler,
    trajectory: Trajectory,
    k: int,
    rows_B: Tensor,
    condition: VariedCondition,
    with_reference: bool,
) -> ReplayedStep:
    """Trained step `k` under the current policy, from the states that the rollout visited.

    Args:
        k: position within the window; the sampler's step is `trajectory.steps_K[k]`.
        rows_B: images to replay, int64.
        condition: the rollout's varied condition of the *same* rows.
        with_reference: also compute the step of the model before fine-tuning.
    """
    step = trajectory.steps_K[k]
    latents_BCHW, next_BCHW = trajectory.latents_KBCHW[k, rows_B], trajectory.latents_KBCHW[k + 1, rows_B]
    reference = None
    if with_reference:  # first: switching the adapter off clears requires_grad of what the next pass needs
        with torch.no_grad(), policy.reference():
            reference = sampler.transition(policy, latents_BCHW, step, condition).mean_BCHW
    transition = sampler.transition(policy, latents_BCHW, step, condition)
    mean_BCHW, std = transition.mean_BCHW, transition.std
    log_prob_B = gaussian_log_prob(next_BCHW, mean_BCHW, std)
    return ReplayedStep(log_prob_B, mean_BCHW, reference, std, sampler.sigmas[step] - sampler.sigmas[step + 1])
