"""Builds the sampling of groups: the sampler of a rollout, the steps that are trained, and the variation of prompts."""

from drift_pl.builders.policy import build_prompt_encoder
from drift_pl.config.batches import derive_batches, noisy_steps, sampling_micro_batch, shortest_stay, window_bounds
from drift_pl.config.schema import Config
from drift_pl.incentive.prompting import PromptingRule
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.groups import GroupSampling, RolloutPlan, Window
from drift_pl.sampling.stochastic import StochasticStep


def build_group_sampling(
    config: Config, policy: Policy, stochastic: StochasticStep, prompting: PromptingRule, keep: frozenset[str]
) -> GroupSampling:
    """The sampling of an iteration's groups: solver, steps and guidance of the config, and the window that is trained.

    Args:
        keep: optional parts of the trajectories, see `rollout`.
    """
    sampler = config.sampler
    first, end = window_bounds(sampler)
    window = Window(
        first=first,
        end=end,
        size=derive_batches(config).trained_steps,
        schedule=sampler.window_schedule,
        stride=sampler.window_stride,
        every=sampler.window_every,
        every_last=shortest_stay(sampler),
        decay=sampler.window_decay,
        decay_from=sampler.window_decay_from,
    )
    plan = RolloutPlan(
        steps=sampler.steps,
        stochastic=stochastic,
        guidance_scale=config.policy.guidance_scale,
        negative_prompt=config.policy.negative_prompt,
        window=window,
        shared_prefix=sampler.shared_prefix,
        noisy=noisy_steps(sampler),
        solver=sampler.solver,
    )
    return GroupSampling(
        policy,
        build_prompt_encoder(config, policy),
        prompting,
        plan,
        sampling_micro_batch(config),
        keep,
        learn_clean=config.incentive.prompting.update == "clean",
    )
