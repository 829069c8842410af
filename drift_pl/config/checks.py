"""What a config must satisfy before anything is built, and the batch sizes that follow from it."""

from dataclasses import dataclass
from typing import Any

from drift_pl.config.choices import (
    CHOICES,
    DDPM_FAMILIES,
    EXTRA_MEASURES,
    LOGGERS,
    LOWER_BOUNDS,
    OPTIONAL_CHOICES,
)
from drift_pl.config.schema import Config, PolicyConfig, PromptingConfig, SamplerConfig
from drift_pl.core.errors import UserError


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
    noise_levels: int

    def describe(self) -> str:
        trained = f"{self.noise_levels} noise levels" if self.noise_levels else f"{self.trained_steps} trained steps"
        return (
            f"{self.images_per_iteration} images per iteration ({self.groups_per_process} groups, "
            f"{self.images_per_process} images per process), {trained}, "
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
        noise_levels=config.objective.nft_times if config.objective.loss == "nft" else 0,
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
    for key, choices in OPTIONAL_CHOICES.items():
        if get_value(config, key) not in (None, *choices):
            raise UserError(f"{key}={get_value(config, key)!r} is unknown: use null or one of {', '.join(choices)}")
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
    power = config.sampler.eval_importance_power
    if power is not None and power < 0:
        raise UserError(f"sampler.eval_importance_power={power} is negative: use e.g. 1.5, or null for none")
    if not config.rewards:
        raise UserError("rewards is empty: name at least one judge, e.g. rewards=[{name: jpeg_compressibility}]")
    unknown = [name for name in config.trainer.logger if name not in LOGGERS]
    if unknown:
        raise UserError(f"trainer.logger: {unknown[0]!r} is unknown: use some of {', '.join(LOGGERS)}, or []")
    extra = [name for name in config.evaluation.extra if name not in EXTRA_MEASURES]
    if extra:
        raise UserError(f"evaluation.extra: {extra[0]!r} is unknown: use some of {', '.join(EXTRA_MEASURES)}")
    if config.trainer.judge_thread and not config.trainer.judge_groups:
        raise UserError("trainer.judge_thread=true needs parts to judge one by one: set e.g. trainer.judge_groups=1")
    _validate_policy(config.policy)
    _validate_shares(config)
    _validate_kind(config)
    _validate_loss(config)
    _validate_window(config.sampler)
    _validate_prompting(config.incentive.prompting)
    _validate_selection(config)
    _validate_method(config)
    derive_batches(config)


def _validate_policy(policy: PolicyConfig) -> None:
    if policy.tuning == "full" and policy.lora.pretrained is not None:
        raise UserError(
            f"policy.lora.pretrained={policy.lora.pretrained} starts an adapter, and policy.tuning=full trains "
            "none: use policy.tuning=lora, or policy.lora.pretrained=null"
        )
    if policy.family == "flux" and policy.negative_prompt:
        raise UserError(
            f"policy.negative_prompt={policy.negative_prompt!r}: policy.family=flux has no branch for it; leave it "
            "empty, policy.negative_prompt="
        )


def _validate_shares(config: Config) -> None:
    for key in ("incentive.prompting.rescale", "incentive.prompting.share", "incentive.shaping.gate_quantile"):
        if not 0 <= get_value(config, key) <= 1:
            raise UserError(f"{key}={get_value(config, key)} does not lie in [0, 1]: use e.g. 0.5")


def _validate_selection(config: Config) -> None:
    selection, size = config.incentive.selection, config.prompts.group_size
    if selection.keep and not 2 <= selection.keep <= size:
        raise UserError(
            f"incentive.selection.keep={selection.keep} does not lie in [2, prompts.group_size={size}]: use e.g. {size}"
        )
    if not 0 <= selection.low < selection.high <= 1:
        raise UserError(
            f"incentive.selection.low={selection.low} and high={selection.high} must satisfy 0 <= low < high <= 1, "
            "e.g. 0 and 0.9"
        )


def _validate_method(config: Config) -> None:
    incentive = config.incentive
    if incentive.method == "drift" and incentive.args:
        raise UserError("incentive.args belongs to a rival method: name one, e.g. incentive.method=gardo, or drop it")
    if incentive.method != "drift" and incentive.shaping.weight > 0:
        raise UserError(
            f"incentive.method={incentive.method} has a diversity term of its own: set incentive.shaping.weight=0"
        )
    if incentive.method != "drift" and config.objective.reward_normalisation != "sum":
        raise UserError(
            f"incentive.method={incentive.method} works on the sum of rewards: set objective.reward_normalisation=sum"
        )


def _validate_kind(config: Config) -> None:
    """A family is a flow or a DDPM, and each has its own stochastic steps."""
    family, kind = config.policy.family, config.sampler.kind
    if family in DDPM_FAMILIES and kind != "ddim":
        raise UserError(f"sampler.kind={kind} is for flow models, and policy.family={family} is none: use ddim")
    if kind == "ddim" and family not in DDPM_FAMILIES:
        raise UserError(
            f"sampler.kind=ddim is for policy.family={' or '.join(DDPM_FAMILIES)}, and {family} is a flow model: "
            "use e.g. flow_sde"
        )
    if kind == "ddim" and config.sampler.noise_level > 1:
        raise UserError(f"sampler.noise_level={config.sampler.noise_level}: ddim takes an eta in (0, 1], e.g. 1")


def _validate_loss(config: Config) -> None:
    """nft knows a flow's images, and no steps."""
    if config.objective.loss != "nft":
        return
    family, guidance = config.policy.family, config.policy.guidance_scale
    if family in DDPM_FAMILIES:
        raise UserError(f"objective.loss=nft is for flow models, and policy.family={family} is none: use surrogate")
    if guidance != 1 and family != "flux":  # flux is told a number instead: its velocity is the network's own
        raise UserError(
            f"objective.loss=nft trains the model's own velocity, and policy.guidance_scale={guidance} mixes two: set "
            f"policy.guidance_scale=1 (and sampler.eval_guidance_scale={guidance} to evaluate with it)"
        )
    if config.incentive.shaping.form == "per_step" and config.incentive.shaping.weight > 0:
        raise UserError(
            "incentive.shaping.form=per_step needs sampled steps, and objective.loss=nft has none: use terminal"
        )
    if config.incentive.method == "diverse_grpo":
        raise UserError(
            "incentive.method=diverse_grpo diverges in early steps only, and objective.loss=nft has no steps: use "
            "objective.loss=surrogate"
        )


def _validate_window(sampler: SamplerConfig) -> None:
    limit = stochastic_steps(sampler)
    if sampler.kind == "flow_cps" and sampler.noise_level > 1:
        raise UserError(f"sampler.noise_level={sampler.noise_level}: flow_cps takes an angle in (0, 1], e.g. 0.8")
    if sampler.kind == "flow_cps" and sampler.noisy_last_step:
        raise UserError("sampler.noisy_last_step=true: flow_cps has no noise in its last step; use false")
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
