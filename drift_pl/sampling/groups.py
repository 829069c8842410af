"""Samples the groups of an iteration: every image from its own noise and its own variation of the prompt.

Everything drawn here is a function of (seed, iteration, sample), so an image depends neither on the number of processes
nor on the micro-batch that it is sampled in.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.rng import make_generator, normal_per_sample, sample_generators
from drift_pl.core.types import PromptBatch, Trajectory
from drift_pl.functional.schedule import sliding_window, window_steps
from drift_pl.incentive.prompting import PromptingRule, VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.rollout import Sampler, rollout, sample_ode
from drift_pl.sampling.stochastic import StochasticStep


@dataclass(frozen=True)
class Window:
    """Which steps of a rollout are sampled with noise and trained.

    Attributes:
        first, end: bounds, [first, end), of where the window may lie.
        size: trained steps K, from 1 to end - first.
        schedule: `random`, drawn for each iteration, or `sliding`.
        stride, every: of a sliding window, see `sliding_window`.
    """

    first: int
    end: int
    size: int
    schedule: str = "random"
    stride: int = 1
    every: int = 1

    def steps(self, seed: int, iteration: int) -> tuple[int, ...]:
        """The trained steps, ascending: a function of (seed, iteration), so the same on all processes."""
        if self.schedule == "sliding":
            return sliding_window(self.first, self.end, self.size, iteration, self.stride, self.every)
        return window_steps(self.first, self.end, self.size, make_generator("window", seed, iteration))


@dataclass(frozen=True)
class RolloutPlan:
    """Settings of training rollouts.

    Attributes:
        steps: denoising steps T.
        stochastic: how the trained steps are drawn.
        guidance_scale: of rollouts and replay.
        negative_prompt: prompt of the unconditional branch.
        window: the trained steps.
        shared_prefix: images of a group share the steps before the window.
    """

    steps: int
    stochastic: StochasticStep
    guidance_scale: float
    negative_prompt: str
    window: Window
    shared_prefix: bool = False


@dataclass(frozen=True)
class GroupSampling:
    """Samples the groups of an iteration.

    Attributes:
        policy: the generator.
        encode: encodes each text once.
        prompting: lever 2.
        plan: grid, guidance, noise, window.
        micro_batch: images per forward pass.
        keep: what trajectories store in addition, see `rollout`.
    """

    policy: Policy
    encode: PromptEncoder
    prompting: PromptingRule
    plan: RolloutPlan
    micro_batch: int
    keep: frozenset[str] = frozenset()

    def __call__(
        self, batch: PromptBatch, device: torch.device, ready: Callable[[Tensor], None] | None = None
    ) -> tuple[VariedCondition, Trajectory]:
        """A group of images for each prompt, and the varied conditions they were sampled under.

        Args:
            ready: is called with each micro-batch's images [b, 3, H, W] once they are sampled, in the order of B.
        """
        samples, key = batch.samples, batch.key
        texts = self.prompting.rewrite(batch.repeated_prompts, *key, samples)
        condition = self.prompting(self.encode(texts, device), *key, samples)
        sampler, window = self.sampler(device), self.plan.window.steps(*key)
        first_step = window[0] if self.plan.shared_prefix else 0
        latents_BCHW = self._first_latents(batch, window[0], device)
        generators = sample_generators("step_noise", *key, samples=samples)
        parts = []
        most = batch.split.most_images if batch.split else len(samples)
        for rows, extra in micro_batches(len(samples), self.micro_batch, most):
            inputs = (condition[rows], window, latents_BCHW[rows], generators[rows])
            part = rollout(self.policy, sampler, *inputs, first_step, self.keep)
            if extra:
                continue
            parts.append(part)
            if ready is not None:
                ready(parts[-1].images_B3HW)
        return condition, Trajectory.concatenate(parts)

    def sampler(self, device: torch.device) -> Sampler:
        """The grid, guidance and noise of rollouts."""
        plan = self.plan
        negative = self.encode([plan.negative_prompt], device, negative=True)
        return Sampler(self.policy.sigmas(plan.steps), plan.guidance_scale, negative, plan.stochastic)

    def _first_latents(self, batch: PromptBatch, start: int, device: torch.device) -> Tensor:
        """An image's own noise [B, C, H, W]; with a shared prefix the state in which its whole group branches.

        A prefix is sampled by the ODE, once per group, from the noise of the group's first image and the unvaried
        prompt (Flow-GRPO-Fast). It saves the forward passes of `start` steps, and costs diversity: what those steps
        decide, above all the layout, is the same in all images of a group, so the group's advantages cannot credit it
        and its measured diversity is not that of independent samples.
        """
        shared, own = self.plan.shared_prefix, batch.parts
        samples = [batch.groups[group] * batch.group_size for group, _ in own] if shared else batch.samples
        generators = sample_generators("initial_latents", *batch.key, samples=samples)
        noise_BCHW = normal_per_sample(generators, self.policy.latent_shape, device)
        if not shared:
            return noise_BCHW
        clean = VariedCondition(self.encode([batch.prompts[group] for group, _ in own], device))
        sampler, parts = self.sampler(device), []
        for rows, extra in micro_batches(len(own), self.micro_batch, batch.split.most_groups if batch.split else 0):
            prefix_BCHW = sample_ode(self.policy, sampler, noise_BCHW[rows], clean[rows], end=start)
            parts += [] if extra else [prefix_BCHW]
        repeats = torch.tensor([rows.stop - rows.start for _, rows in own], device=device)
        return torch.cat(parts).repeat_interleave(repeats, dim=0)


def micro_batches(count: int, size: int, most: int = 0) -> list[tuple[slice, bool]]:
    """Rows of each forward pass, and whether it is an extra one, whose result nobody needs.

    A sharded network gathers its weights in every pass, so all processes must make as many as the one with most rows.

    Args:
        count: rows of this process, at least 1.
        size: rows per pass.
        most: rows of the process that has most.
    """
    passes = [(slice(start, min(start + size, count)), False) for start in range(0, count, size)]
    return passes + [(slice(0, 1), True)] * (-(-most // size) - len(passes))
