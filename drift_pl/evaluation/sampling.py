"""Sampling for evaluation and `generate`: a loaded model, the deterministic sampler, reproducible noise."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drift_pl.core.rng import normal_per_sample
from drift_pl.core.types import Condition
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.rollout import sample_ode
from drift_pl.sampling.sampler import Sampler


@dataclass(frozen=True)
class SamplingPlan:
    """Settings of the deterministic sampler.

    Attributes:
        steps, guidance_scale, negative_prompt: see `Sampler`.
        importance_power: of annealed importance guidance, see `Sampler`; None for none.
        lora_scale: factor of the adapter's output.
        resolution: height and width of the images in pixels; None for the policy's own.
    """

    steps: int
    guidance_scale: float
    negative_prompt: str
    importance_power: float | None = None
    lora_scale: float = 1.0
    resolution: int | None = None


@dataclass(frozen=True)
class Model:
    """A policy, ready to be sampled from.

    Attributes:
        encode: prompts, device, negative or not -> condition, see `PromptEncoder`.
        device: of the policy.
        autocast: the context of the precision.
    """

    policy: Policy
    encode: Callable[..., Condition]
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]

    @classmethod
    def on(cls, policy: Policy, device: torch.device, autocast: Callable[[], AbstractContextManager[Any]]) -> "Model":
        """Moves a policy to a device."""
        policy.network.to(device)
        policy.to(device)
        return cls(policy, PromptEncoder(policy), device, autocast)

    @contextmanager
    def sampler(self, plan: SamplingPlan, base: bool = False) -> Iterator[Sampler]:
        """Makes the policy the fine-tuned model, scaled and guided as planned, or the plain base model."""
        power = None if base else plan.importance_power
        with self.policy.reference() if base else self.policy.adapter_scale(plan.lora_scale):
            negative = self.encode([plan.negative_prompt], self.device, negative=True)
            # the noise levels of some models depend on the resolution
            with self.autocast(), self.policy.at_resolution(plan.resolution):
                sigmas = self.policy.sigmas(plan.steps)
                yield Sampler(sigmas, plan.guidance_scale, negative, importance_power=power)


@torch.no_grad()
def sample_images(
    model: Model,
    sampler: Sampler,
    condition: Condition,
    generators: Sequence[torch.Generator],
    micro_batch: int,
    sampled: Callable[[int], object] = lambda images: None,
) -> Tensor:
    """Images [N, 3, H, W] of one prompt, in the policy's precision, on its device.

    Args:
        condition: one row.
        generators: one per image; image k starts from the noise of `generators[k]` alone.
        micro_batch: images per forward pass.
        sampled: called after each pass with the number of its images, to show progress.
    """
    noise_NCHW = normal_per_sample(generators, model.policy.latent_shape, model.device)
    images = []
    for noise_BCHW in noise_NCHW.split(micro_batch):
        repeated = VariedCondition(condition.repeat_interleave(len(noise_BCHW)))
        images.append(model.policy.decode(sample_ode(model.policy, sampler, noise_BCHW, repeated)))
        sampled(len(noise_BCHW))
    return torch.cat(images)
