"""Samples the groups of an iteration: every image from its own noise and its own variation of the prompt.

Everything drawn here is a function of (seed, iteration, sample), so an image depends neither on the number of processes
nor on the micro-batch that it is sampled in.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.rng import make_generator, normal_per_sample, sample_generators
from drift_pl.core.types import Trajectory
from drift_pl.functional.schedule import exponential_stay, linear_stay, moving_window, random_steps, window_steps
from drift_pl.incentive.prompting import PromptingRule, VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.rollout import rollout, sample_ode
from drift_pl.sampling.sampler import Sampler
from drift_pl.sampling.stochastic import StochasticStep


@dataclass(frozen=True)
class Window:
    """Which steps of a rollout are sampled with noise and trained.

    Attributes:
        first, end: bounds, [first, end), of where the window may lie.
        size: trained steps K, from 0 (the whole rollout follows the ODE) to end - first.
        schedule: `random`, a window drawn for each iteration; `subset`, steps drawn for each iteration that need not
            follow one another; or a window that moves on: `sliding`, `linear_decay`, `exp_decay` (see `stay`).
        stride: steps by which it moves on.
        every: iterations until it does.
        every_last: `linear_decay`: towards the end of the range.
        decay, decay_from: `exp_decay`: rate, and the position from which on it stays shorter.
    """

    first: int
    end: int
    size: int
    schedule: str = "random"
    stride: int = 1
    every: int = 1
    every_last: int = 1
    decay: float = 0.1
    decay_from: int = 13

    def steps(self, seed: int, iteration: int) -> tuple[int, ...]:
        """The trained steps, ascending: a function of (seed, iteration), so the same on all processes."""
        if self.size == 0:
            return ()
        bounds = (self.first, self.end, self.size)
        if self.schedule in ("random", "subset"):
            draw = window_steps if self.schedule == "random" else random_steps
            return draw(*bounds, make_generator("window", seed, iteration))
        return moving_window(*bounds, iteration, self.stride, self.stay)

    def stay(self, start: int) -> int:
        """Iterations for which a window that moves on stays where it starts at position `start`."""
        if self.schedule == "linear_decay":
            return linear_stay(start, self.first, self.end, self.every, self.every_last)
        if self.schedule == "exp_decay":
            return exponential_stay(start, self.every, self.decay, self.decay_from)
        return self.every


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
        noisy: steps that have noise whether they are trained or not.
        solver: of the steps without noise, see `DeterministicSteps`.
    """

    steps: int
    stochastic: StochasticStep
    guidance_scale: float
    negative_prompt: str
    window: Window
    shared_prefix: bool = False
    noisy: Collection[int] = ()
    solver: str = "euler"


@dataclass(frozen=True)
class GroupSampling:
    """Samples the groups of an iteration.

    Attributes:
        policy: the generator.
        encode: encodes each text once.
        prompting: lever 2.
        plan: grid, guidance, noise, window.
        micro_batch: images per forward pass of a rollout.
        keep: what trajectories store in addition, see `rollout`.
        learn_clean: images sampled under varied conditions are learnt under their clean prompts (E2PO, arXiv
            2605.15803). Sound for an update that trains on the images alone: one that replays the sampled steps needs
            the conditions that they were sampled under.
    """

    policy: Policy
    encode: PromptEncoder
    prompting: PromptingRule
    plan: RolloutPlan
    micro_batch: int
    keep: frozenset[str] = frozenset()
    learn_clean: bool = False

    def __call__(
        self, batch: PromptBatch, device: torch.device, ready: Callable[[Tensor], None] | None = None
    ) -> tuple[VariedCondition, Trajectory]:
        """A group of images for each prompt, and the conditions that they are learnt under.

        These are the varied ones that they were sampled under, or, with `learn_clean`, the clean ones.

        Args:
            ready: is called with each micro-batch's images [b, 3, H, W] once they are sampled, in the order of B.
        """
        key, samples, sampler = batch.key, batch.samples, self.sampler(device)
        window, condition = self.plan.window.steps(*key), self._conditions(batch, device, self.prompting)
        prefix_BCHW = self._prefix(batch, sampler, window[0], device) if self.plan.shared_prefix else None
        first_step = 0 if prefix_BCHW is None else window[0]

        def micro_batch(rows: slice, ready: Callable[[Tensor], None] | None = ready) -> Trajectory:
            if prefix_BCHW is None:
                latents_BCHW = self._noise(batch, samples[rows], device)
            else:
                latents_BCHW = prefix_BCHW[rows]
            generators = sample_generators("step_noise", *key, samples=samples[rows])
            inputs = (condition[rows], window, latents_BCHW, generators)
            sampled = rollout(self.policy, sampler, *inputs, first_step, self.keep, self.plan.noisy)
            if ready is not None:
                ready(sampled.images_B3HW)
            return sampled

        whole = Trajectory.concatenate(map(micro_batch, self._micro_batches(len(samples))), len(samples))
        for _ in range(self._further_passes(len(samples), batch.most_images)):
            micro_batch(slice(0, 1), ready=None)
        learnt = self._conditions(batch, device, PromptingRule()) if self.learn_clean else condition
        return learnt, whole

    def sampler(self, device: torch.device) -> Sampler:
        """The grid, guidance and noise of rollouts."""
        plan = self.plan
        negative = self.encode([plan.negative_prompt], device, negative=True)
        grid = self.policy.sigmas(plan.steps)
        return Sampler(grid, plan.guidance_scale, negative, plan.stochastic, solver=plan.solver)

    def _conditions(self, batch: PromptBatch, device: torch.device, rule: PromptingRule) -> VariedCondition:
        """The condition of every image, varied by a rule; each distinct text is one row."""
        texts = rule.rewrite(batch.repeated_prompts, *batch.key, batch.samples)
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        rows_B = [row_of[text] for text in texts]
        return rule(self.encode(list(row_of), device), *batch.key, batch.samples, rows_B)

    def _prefix(self, batch: PromptBatch, sampler: Sampler, start: int, device: torch.device) -> Tensor:
        """The state in which an image's whole group branches, at the window's first step `start`: [B, C, H, W].

        It is sampled by the ODE, once per group, from the noise of the group's first image and the unvaried prompt
        (Flow-GRPO-Fast). It saves the forward passes of `start` steps, and costs diversity: what those steps decide,
        above all the layout, is the same in all images of a group, so the group's advantages cannot credit it and its
        measured diversity is not that of independent samples.
        """
        samples = [batch.groups[number] * batch.group_size for number, _ in batch.parts]
        noise_PCHW = self._noise(batch, samples, device)
        clean = VariedCondition(self.encode([batch.prompts[number] for number, _ in batch.parts], device))
        parts, further = self._micro_batches(len(samples)), self._further_passes(len(samples), batch.most_groups)
        states = [
            sample_ode(self.policy, sampler, noise_PCHW[rows], clean[rows], end=start)
            for rows in [*parts, *[slice(0, 1)] * further]
        ]
        sizes = torch.tensor([rows.stop - rows.start for _, rows in batch.parts], device=device)
        return torch.cat(states[: len(parts)]).repeat_interleave(sizes, dim=0)

    def _noise(self, batch: PromptBatch, samples: Sequence[int], device: torch.device) -> Tensor:
        """What images start from, each from its own, [b, C, H, W]."""
        generators = sample_generators("initial_latents", *batch.key, samples=samples)
        return normal_per_sample(generators, self.policy.latent_shape, device)

    def _micro_batches(self, num_images: int) -> list[slice]:
        return [slice(start, start + self.micro_batch) for start in range(0, num_images, self.micro_batch)]

    def _further_passes(self, count: int, most: int) -> int:
        """Passes whose results nobody needs. Processes pass a sharded network together: each makes as many as any.

        Args:
            count: rows of this process.
            most: rows of the process that has most.
        """
        return len(self._micro_batches(most)) - len(self._micro_batches(count))
