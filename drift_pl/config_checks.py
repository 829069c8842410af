"""What a config must satisfy before anything is built, and the batch sizes that follow from it."""

from dataclasses import dataclass
from typing import Any

from drift_pl.config import Config, PromptingConfig, SamplerConfig
from drift_pl.errors import UserError

CHOICES: dict[str, tuple[str, ...]] = {
    "policy.family": ("sd3",),
    "sampler.kind": ("flow_sde",),
    "incentive.method": ("drift",),
    "incentive.selection.rule": ("none", "band"),
    "incentive.selection.statistics": ("median", "mean"),
    "incentive.prompting.rule": ("none", "embedding_noise"),
    "incentive.shaping.potential": ("mean",),
    "incentive.shaping.normalise": ("raw", "minmax"),
    "objective.advantage_std": ("group", "global", "kept", "none"),
    "objective.kl_form": ("exact", "flow_grpo"),
    "trainer.strategy": ("auto", "ddp"),
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.precision": ("32-true", "bf16-mixed"),
}

LOGGERS = ("tensorboard", "csv")

# key -> (smallest allowed value, whether that value itself is allowed)
LOWER_BOUNDS: dict[str, tuple[float, bool]] = {
    "policy.lora.rank": (1, True),
    "policy.lora.alpha": (1, True),
    "policy.max_sequence_length": (0, True),
    "sampler.steps": (2, True),
    "sampler.noise_level": (0, False),
    "sampler.eval_steps": (1, True),
    "prompts.per_iteration": (1, True),
    "prompts.group_size": (2, True),
    "incentive.selection.kappa": (0, False),
    "incentive.prompting.scale": (0, True),
    "incentive.shaping.weight": (0, True),
    "incentive.shaping.floor": (0, False),
    "objective.clip_range": (0, False),
    "objective.advantage_clip": (0, False),
    "objective.kl_weight": (0, True),
    "objective.inner_epochs": (1, True),
    "objective.updates": (1, True),
    "objective.micro_batch": (1, True),
    "objective.learning_rate": (0, False),
    "objective.warmup": (0, True),
    "objective.max_grad_norm": (0, False),
    "evaluation.every": (0, True),
    "evaluation.seeds_per_prompt": (2, True),
    "evaluation.seeds_while_training": (2, True),
    "evaluation.max_prompts": (0, True),
    "trainer.iterations": (1, True),
    "trainer.devices": (1, True),
    "trainer.num_nodes": (1, True),
    "trainer.save_every": (1, True),
    "trainer.threads": (0, True),
    "trainer.keep_checkpoints": (-1, True),
    "policy.guidance_scale": (1, True),
    "objective.weight_decay": (0, True),
    "incentive.prompting.anneal_iterations": (0, True),
    "evaluation.grid_prompts": (1, True),
    "evaluation.grid_seeds": (1, True),
}


def get_value(config: Config, key: str) -> Any:
    """Value of a dotted key, e.g. `get_value(config, "prompts.group_size")`."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


@dataclass(frozen=True)
class BatchArithmetic:
    """What the batch keys amount to; every number derived, none stored.

    Example: 8 prompts of 16 images on 2 processes are 4 groups and 64 images per process; with 2 updates each
    optimiser step takes 2 groups per process, 64 images in all.
    """

    groups_per_process: int
    images_per_process: int
    images_per_iteration: int
    images_per_update: int
    optimizer_steps_per_iteration: int
    trained_steps: int

    def describe(self) -> str:
        return (
            f"{self.images_per_iteration} images per iteration ({self.groups_per_process} groups, "
            f"{self.images_per_process} images per process), {self.trained_steps} trained steps, "
            f"{self.optimizer_steps_per_iteration} optimiser steps of {self.images_per_update} images"
        )


def derive_batches(config: Config) -> BatchArithmetic:
    """Batch sizes of a run.

    Raises:
        UserError: the prompts cannot be shared equally between processes or updates.
    """
    world = config.trainer.devices * config.trainer.num_nodes
    per_iteration, updates = config.prompts.per_iteration, config.objective.updates
    share = world * updates
    if per_iteration % share:
        below, above = per_iteration // share * share, (per_iteration // share + 1) * share
        working = f"{above}" if below == 0 else f"{below} or {above}"
        raise UserError(
            f"prompts.per_iteration={per_iteration} cannot be shared by {world} process(es) x "
            f"objective.updates={updates}: use a multiple of {share}, e.g. {working}"
        )
    groups, size = per_iteration // world, config.prompts.group_size
    window = config.sampler.window_size
    return BatchArithmetic(
        groups_per_process=groups,
        images_per_process=groups * size,
        images_per_iteration=per_iteration * size,
        images_per_update=per_iteration * size // updates,
        optimizer_steps_per_iteration=updates * config.objective.inner_epochs,
        trained_steps=stochastic_steps(config.sampler) if window is None else window,
    )


def stochastic_steps(sampler: SamplerConfig) -> int:
    """How many leading steps of a rollout may carry noise."""
    return sampler.steps if sampler.noisy_last_step else sampler.steps - 1


def window_bounds(sampler: SamplerConfig) -> tuple[int, int]:
    """[first, end) of the steps that the SDE window may cover."""
    if not sampler.window_range:
        return 0, stochastic_steps(sampler)
    return sampler.window_range[0], sampler.window_range[1]


def validate(config: Config) -> None:
    """Refuse what cannot be run.

    Raises:
        UserError: one line that names the key and a value that would work.
    """
    for key, choices in CHOICES.items():
        if get_value(config, key) not in choices:
            raise UserError(f"{key}={get_value(config, key)!r} is unknown: use one of {', '.join(choices)}")
    for key, (bound, inclusive) in LOWER_BOUNDS.items():
        value = get_value(config, key)
        if value < bound or (value == bound and not inclusive):
            relation = "at least" if inclusive else "more than"
            default = get_value(Config(), key)
            raise UserError(f"{key}={value} is too small: it must be {relation} {bound}, e.g. {default or bound}")
    if not 0 <= config.objective.ema_decay < 1:
        raise UserError(
            f"objective.ema_decay={config.objective.ema_decay} is not in [0, 1): use e.g. 0.9, or 0 for none"
        )
    if not config.rewards:
        raise UserError("rewards is empty: name at least one judge, e.g. rewards=[{name: jpeg_compressibility}]")
    unknown = [name for name in config.trainer.logger if name not in LOGGERS]
    if unknown:
        raise UserError(f"trainer.logger: {unknown[0]!r} is unknown: use some of {', '.join(LOGGERS)}, or []")
    _validate_window(config.sampler)
    _validate_prompting(config.incentive.prompting)
    derive_batches(config)


def _validate_window(sampler: SamplerConfig) -> None:
    limit = stochastic_steps(sampler)
    if sampler.window_range and len(sampler.window_range) != 2:
        raise UserError(f"sampler.window_range={sampler.window_range} needs two numbers, e.g. [0,{limit}]")
    first, end = window_bounds(sampler)
    if not 0 <= first < end <= limit:
        raise UserError(
            f"sampler.window_range=[{first},{end}] does not lie in [0,{limit}]: with sampler.steps={sampler.steps} "
            f"use e.g. [0,{limit}]"
        )
    if sampler.window_size is not None and not 1 <= sampler.window_size <= end - first:
        raise UserError(
            f"sampler.window_size={sampler.window_size} does not fit into [{first},{end}): use 1 to {end - first}"
        )


def _validate_prompting(prompting: PromptingConfig) -> None:
    if not 0 <= prompting.low < prompting.high <= 1:
        raise UserError(
            f"incentive.prompting.low={prompting.low} and high={prompting.high} must satisfy "
            "0 <= low < high <= 1, e.g. 0.6 and 0.9"
        )
