"""Which keys to change so that a run fits a device, from those that cost least to those that cost most."""

from collections.abc import Callable, Mapping

from drift_pl.builders.devices import Device
from drift_pl.builders.planning import plan_of
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError


def _is_whole(config: Config) -> bool:
    """Whether each process has all weights: FSDP2 shards only tensors of the usual dtypes."""
    return config.trainer.strategy != "fsdp"


def _narrow_moments(config: Config) -> str | None:
    return "adamw8bit" if _is_whole(config) and config.objective.optimizer == "adamw" else None


def _narrow_storage(config: Config) -> str | None:
    return "fp8" if _has_wide_base(config) and config.policy.storage is None else None


def _quantised(config: Config) -> str | None:
    return "bitsandbytes_4bit" if _has_wide_base(config) else None


def _has_wide_base(config: Config) -> bool:
    """Whether there are frozen weights that are not quantised yet and may be stored in a narrower form."""
    return _is_whole(config) and config.policy.tuning == "lora" and config.policy.quantisation is None


REMEDIES: tuple[tuple[str, Callable[[Config], str | None]], ...] = (
    ("policy.text_encoder_device", lambda c: "cpu" if c.policy.text_encoder_device is None else None),
    ("policy.dtype", lambda c: "bfloat16" if c.policy.tuning == "lora" and c.policy.dtype == "float32" else None),
    ("policy.offload", lambda c: None if c.policy.offload else "true"),
    ("policy.gradient_checkpointing", lambda c: None if c.policy.gradient_checkpointing else "true"),
    ("objective.micro_batch", lambda c: "4" if c.objective.micro_batch > 4 else None),
    ("objective.micro_batch", lambda c: "1" if c.objective.micro_batch > 1 else None),
    ("objective.optimizer", _narrow_moments),
    ("policy.storage", _narrow_storage),
    ("prompts.per_iteration", lambda c: "8" if c.prompts.per_iteration > 8 else None),
    ("prompts.group_size", lambda c: "8" if c.prompts.group_size > 8 else None),
    ("policy.quantisation", _quantised),
)
"""Keys in the order in which they are tried -> a value that takes less memory, or None where it is taken already."""


def remedies(config: Config, device: Device, change: Callable[[Mapping[str, str]], Config]) -> dict[str, str] | None:
    """Keys and values with which the run fits, each of them needed; None if it does not with all.

    Args:
        change: the config with other values.
    """
    changed: dict[str, str] = {}
    stored = config.policy.storage
    for key, better in REMEDIES:
        value = better(config)
        if value is None:
            continue
        wanted = {**changed, key: value}
        if key == "policy.quantisation":  # which takes the place of the other
            wanted.pop("policy.storage", None)
            wanted |= {"policy.storage": "null"} if stored else {}
        try:
            config = change(wanted)
        except UserError:  # of this config the key cannot be changed like that
            continue
        changed = wanted
        if plan_of(config).fits(device):
            return _needed(changed, device, change)
    return None


def _needed(changed: dict[str, str], device: Device, change: Callable[[Mapping[str, str]], Config]) -> dict[str, str]:
    """Without those that what came later made superfluous; the costlier ones are left out first."""
    for key in reversed(list(changed)):
        fewer = {name: value for name, value in changed.items() if name != key}
        try:
            if plan_of(change(fewer)).fits(device):
                changed = fewer
        except UserError:  # what is left is no config
            continue
    return changed


def advice(changed: Mapping[str, str] | None) -> str:
    """What a user is told."""
    if changed is None:
        return "no change of the memory settings makes it fit: take a smaller policy.resolution, or another device"
    return f"it fits with: {' '.join(f'{key}={value}' for key, value in changed.items())}"
