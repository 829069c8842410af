"""How a run was trained and measured: what two measurements must share before their values are compared."""

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
    """What two evaluations must share for their values to be comparable; docs/evaluation.md explains the fields."""

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


def first_difference(one: Protocol, other: Protocol) -> tuple[str, Any, Any] | None:
    """The first field in which two protocols differ, with both values; of prompts, their numbers or the first pair."""
    for field in Protocol.__annotations__:
        first, second = dict(one)[field], dict(other)[field]
        if first == second:
            continue
        if field != "prompts":
            return field, first, second
        if len(one["prompts"]) != len(other["prompts"]):
            return "number of prompts", len(one["prompts"]), len(other["prompts"])
        pairs = enumerate(zip(one["prompts"], other["prompts"], strict=True), start=1)
        return next((f"prompt {number}", *pair) for number, pair in pairs if pair[0] != pair[1])
    return None
