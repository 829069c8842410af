"""The walk: sampling images with the current policy, and computing again how likely its steps were."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.functional.transition import flow_ode_step, flow_sde_diffusion, flow_sde_step, gaussian_log_prob
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.rng import normal_per_sample
from drift_pl.types import Condition, Trajectory


@dataclass(frozen=True)
class Sampler:
    """How a policy is sampled.

    Attributes:
        sigmas: noise levels of the grid, float32 [T + 1], falling.
        guidance_scale: of rollouts and training.
        noise_level: a of Flow-GRPO's SDE.
        negative: condition of the unconditional branch, one row.
    """

    sigmas: Tensor
    guidance_scale: float
    noise_level: float
    negative: Condition

    @property
    def num_steps(self) -> int:
        return len(self.sigmas) - 1

    def velocity(self, policy: Policy, latents_BCHW: Tensor, step: int, condition: VariedCondition) -> Tensor:
        sigma = self.sigmas[step]
        varied = condition.at(float(sigma))
        return policy.predict(latents_BCHW, sigma, varied, self.negative, self.guidance_scale)

    def transition(
        self, policy: Policy, latents_BCHW: Tensor, step: int, condition: VariedCondition
    ) -> tuple[Tensor, Tensor]:
        """Mean [B, C, H, W] and std of the stochastic step number `step`."""
        velocity = self.velocity(policy, latents_BCHW, step, condition)
        sigma, sigma_next = self.sigmas[step], self.sigmas[step + 1]
        diffusion = flow_sde_diffusion(sigma, self.sigmas[1], self.noise_level)
        return flow_sde_step(latents_BCHW, velocity, sigma, sigma_next, diffusion)

    def ode_step(self, policy: Policy, latents_BCHW: Tensor, step: int, condition: VariedCondition) -> Tensor:
        velocity = self.velocity(policy, latents_BCHW, step, condition)
        return flow_ode_step(latents_BCHW, velocity, self.sigmas[step], self.sigmas[step + 1])


@torch.no_grad()
def sample_ode(policy: Policy, sampler: Sampler, noise_BCHW: Tensor, condition: VariedCondition) -> Tensor:
    """Deterministic samples, latents float32 [B, C, H, W], from the given noise: the evaluation sampler."""
    latents_BCHW = noise_BCHW
    for step in range(sampler.num_steps):
        latents_BCHW = sampler.ode_step(policy, latents_BCHW, step, condition)
    return latents_BCHW


@torch.no_grad()
def rollout(
    policy: Policy,
    sampler: Sampler,
    condition: VariedCondition,
    window: Sequence[int],
    noise_BCHW: Tensor,
    generators: Sequence[torch.Generator],
) -> Trajectory:
    """Samples images, with noise in the steps of `window` and by the ODE outside of it.

    Args:
        condition: one row per image.
        window: the trained steps, ascending and contiguous.
        noise_BCHW: initial latents, standard normal float32.
        generators: one per image, on the CPU; image b's step noise comes from `generators[b]` alone.
    """
    latents_BCHW = noise_BCHW.float()
    kept: list[Tensor] = []
    log_probs: list[Tensor] = []
    for step in range(sampler.num_steps):
        if step not in window:
            latents_BCHW = sampler.ode_step(policy, latents_BCHW, step, condition)
            continue
        if not kept:
            kept.append(latents_BCHW)
        mean_BCHW, std = sampler.transition(policy, latents_BCHW, step, condition)
        noise = normal_per_sample(generators, mean_BCHW.shape[1:], mean_BCHW.device)
        latents_BCHW = mean_BCHW + std * noise
        log_probs.append(gaussian_log_prob(latents_BCHW, mean_BCHW, std))
        kept.append(latents_BCHW)
    images = policy.decode(latents_BCHW)
    return Trajectory(torch.stack(kept), torch.stack(log_probs), tuple(window), images)


def rollout_in_micro_batches(
    policy: Policy,
    sampler: Sampler,
    condition: VariedCondition,
    window: Sequence[int],
    noise_BCHW: Tensor,
    generators: Sequence[torch.Generator],
    micro_batch: int,
) -> Trajectory:
    """`rollout`, at most `micro_batch` images at a time; groups may be larger than memory."""
    parts = []
    for start in range(0, len(condition), micro_batch):
        rows = slice(start, start + micro_batch)
        parts.append(rollout(policy, sampler, condition[rows], window, noise_BCHW[rows], generators[rows]))
    return Trajectory(
        torch.cat([part.latents_KBCHW for part in parts], dim=1),
        torch.cat([part.log_prob_KB for part in parts], dim=1),
        tuple(window),
        torch.cat([part.images_B3HW for part in parts]),
    )


@dataclass(frozen=True)
class ReplayedStep:
    """A trained transition, seen by the current policy (with gradient) and by the reference (without).

    Attributes:
        log_prob_B: float32 [B], with gradient.
        mean_BCHW: mean of the step, with gradient.
        reference_mean_BCHW: mean under the reference model, or None where nobody asked.
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
    """How the current policy would take trained step `k` from the states that the rollout visited.

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
            reference, _ = sampler.transition(policy, latents_BCHW, step, condition)
    mean_BCHW, std = sampler.transition(policy, latents_BCHW, step, condition)
    log_prob_B = gaussian_log_prob(next_BCHW, mean_BCHW, std)
    return ReplayedStep(log_prob_B, mean_BCHW, reference, std, sampler.sigmas[step] - sampler.sigmas[step + 1])
