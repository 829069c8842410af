"""Config becomes the base algorithm: advantages, and the update that they are for."""

from typing import Any

from drift_pl.config.batches import window_bounds
from drift_pl.config.schema import Config
from drift_pl.functional.advantage import AdvantageRule
from drift_pl.training.updates.clipped import ClippedUpdate
from drift_pl.training.updates.forward import ForwardUpdate


def build_advantage(config: Config) -> AdvantageRule:
    return AdvantageRule(config.objective.advantage_std, config.objective.advantage_clip)


def build_update(config: Config) -> ClippedUpdate | ForwardUpdate:
    objective = config.objective
    common: dict[str, Any] = {
        "kl_weight": objective.kl_weight,
        "skip_zero_advantage": objective.skip_zero_advantage,
        "inner_epochs": objective.inner_epochs,
        "updates": objective.updates,
        "micro_batch": objective.micro_batch,
        "max_grad_norm": objective.max_grad_norm,
    }
    if objective.loss == "nft":
        limit = objective.advantage_clip
        return ForwardUpdate(beta=objective.nft_beta, times=objective.nft_times, advantage_limit=limit, **common)
    return ClippedUpdate(
        clip_range=objective.clip_range,
        kl_form=objective.kl_form,
        ratio=objective.ratio,
        step_weights=objective.step_weights,
        trainable_steps=window_bounds(config.sampler),
        **common,
    )
