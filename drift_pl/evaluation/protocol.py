"""How a run was trained and measured: what two measurements must share before their values are compared."""

import json
from collections.abc import Mapping
from typing import Any

from typing_extensions import TypedDict  # pydantic cannot read the one of Python 3.11

MEASURED_WITH = ("policy.pretrained", "rewards.", "evaluation.")
"""Beginnings of the settings whose files the base model's values depend on."""


class Training(TypedDict):
    """The whole run: what a fair comparison must share."""

    iterations: int
    images: int
    optimiser_steps: int
    prompts_digest: str


class Protocol(TypedDict):
    """What two evaluations must share for their values to be comparable."""

    prompts: list[str]
    seeds_per_prompt: int
    steps: int
    guidance_scale: float
    negative_prompt: str
    resolution: int | None
    precision: str
    policy: str
    judges: list[str]
    heldout_judges: list[str]
    encoder: str
    lpips: str
    measures: list[str]
    vendi_order: float


def first_difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """In words, the first field in which two protocols differ; None if they are equal."""
    for field in Protocol.__annotations__:
        one, other = earlier[field], now[field]
        if one == other:
            continue
        if field != "prompts":
            return f"{field} is {json.dumps(one)} there and {json.dumps(other)} now"
        if len(one) != len(other):
            return f"prompts: {len(one)} there and {len(other)} now"
        number = next(index for index, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
        return f"prompts: the {number + 1}. is {one[number]!r} there and {other[number]!r} now"
    return None
