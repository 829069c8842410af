"""Policies of the tiny folders, by the names that settings have."""

from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from drift_pl.core.registry import find
from drift_pl.policies.loading import LowRank, load_policy
from drift_pl.policies.pipeline import PipelinePolicy

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
LENGTHS = {"sd3": 0, "flux": 12, "zimage": 80, "qwen_image": 40, "flux2_klein": 40, "sana": 40, "wan": 40}
"""Text tokens that fit the tiny folders."""

Family = TypeVar("Family", bound=PipelinePolicy)


def load_tiny(family: str | type[Family], folder: Path | str, **options: Any) -> Family:
    """A policy that trains an adapter of rank 4 and alpha 8 unless `options` say otherwise.

    Args:
        family: name or class.
        options: `tuning`, arguments of `LowRank`, of `load_policy`, and of the policy's constructor.
    """
    made: Any = find("family", family) if isinstance(family, str) else family
    defaults = {"rank": 4, "alpha": 8, "targets": TARGETS, "max_sequence_length": LENGTHS.get(made.family, 77)}
    if made.family == "wan":
        defaults["frames"] = 5
    options = {**defaults, **options}
    full = options.pop("tuning", "lora") == "full"
    low_rank = {field.name: options.pop(field.name) for field in fields(LowRank) if field.name in options}
    loading = {name: options.pop(name) for name in signature(load_policy).parameters if name in options}
    return load_policy(made, str(folder), None if full else LowRank(**low_rank), options, **loading)
