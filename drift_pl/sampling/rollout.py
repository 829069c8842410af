"""Rollout and replay: sample images and recompute step log-probabilities.

`rollout` samples images and keeps the states and log-probabilities of the trained steps. `replay` computes the same
steps with the policy of now, with gradients; the ratio of both log-probabilities is what the clipped update needs.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.types import Trajectory
from drift_pl.functional.transition import gaussian_log_prob
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.sampler import Sampler
from drift_pl.sampling.solver import DeterministicSteps

__all__ = ["ReplayedStep", "Sampler", "replay", "rollout", "sample_ode"]


@torch.no_grad()
def sample_ode(
    policy: Policy, sampler: Sampler, noise_BCHW: Tensor, condition: VariedCondition, end: int | None = None
) -> Tensor:
    """Deterministic samples, latents float32 [B, C, H, W], from the given noise: the evaluation sampler.

    Args:
        end: stop before this step and return the intermediate latents; None: take all steps.
    """
    latents_BCHW, deterministic_step = noise_BCHW, DeterministicSteps(policy, sampler)
    for step in range(sampler.num_steps if end is None else end):
        latents_BCHW = deterministic_step(latents_BCHW, step, condition)
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
    noisy: Collection[int] = (),
) -> Trajectory:
    """Samples images: stochastic steps inside `window` and in `noisy`, deterministic ones elsewhere.

    Args:
        condition: one row per image.
        window: the trained steps, ascending.
        latents_BCHW: states before `first_step`, float32; before step 0 standard normal noise.
        generators: one per image, on the CPU; image b's step noise comes from `generators[b]` alone.
        keep: what the trajectory stores in addition, of `means` and `predictions`.
        noisy: steps that have noise and are not trained.
    """
    latents_BCHW, deterministic_step = latents_BCHW.float(), DeterministicSteps(policy, sampler)
    states: list[Tensor] = []
    log_probs: list[Tensor] = []
    means: list[Tensor] = []
    predictions: list[Tensor] = []
    for step in range(first_step, sampler.num_steps):
        if step not in window and step not in noisy:
            latents_BCHW = deterministic_step(latents_BCHW, step, condition)
            continue
        if step in window and step - 1 not in window:
            states.append(latents_BCHW)
        transition = sampler.transition(policy, latents_BCHW, step, condition)
        latents_BCHW = transition.drawn(generators)
        if step not in window:
            continue
        log_probs.append(gaussian_log_prob(latents_BCHW, transition.mean_BCHW, transition.std))
        states.append(latents_BCHW)
        if "means" in keep:
            means.append(transition.mean_BCHW)
        if "predictions" in keep:
            predictions.append(transition.predicted_BCHW)
    return Trajectory(
        torch.stack(states) if states else latents_BCHW[None][:0],
        torch.stack(log_probs) if log_probs else latents_BCHW.new_empty(0, len(latents_BCHW)),
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
    place = trajectory.place(k)
    latents_BCHW, next_BCHW = trajectory.latents_KBCHW[place, rows_B], trajectory.latents_KBCHW[place + 1, rows_B]
    reference = None
    if with_reference:  # first: switching the adapter off clears requires_grad of what the next pass needs
        with torch.no_grad(), policy.reference():
            reference = sampler.transition(policy, latents_BCHW, step, condition).mean_BCHW
    transition = sampler.transition(policy, latents_BCHW, step, condition)
    mean_BCHW, std = transition.mean_BCHW, transition.std
    log_prob_B = gaussian_log_prob(next_BCHW, mean_BCHW, std)
    return ReplayedStep(log_prob_B, mean_BCHW, reference, std, sampler.sigmas[step] - sampler.sigmas[step + 1])
