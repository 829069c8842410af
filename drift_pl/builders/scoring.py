"""Builds rewards, encoders and measures, and reads the lists of prompts."""

import functools
import inspect
import re
from collections.abc import Sequence
from typing import Any

from drift_pl.config.batches import most_processes_of_whole_groups, num_processes
from drift_pl.config.schema import Config, NamedConfig, RewardConfig
from drift_pl.core.errors import UserError, naming
from drift_pl.core.registry import check_arguments, find
from drift_pl.sampling.prompts import read_prompts
from drift_pl.scoring.calls import switches_kept
from drift_pl.scoring.encoders import CombinedEncoder
from drift_pl.scoring.rewards import WeightedReward

CALLED_WITH = {
    "reward": ("images", "prompts"),
    "encoder": ("images",),
    "measure": ("images", "prompts"),
    "categories": ("images", "prompts"),
}
"""Kind -> the first parameters of a function that is itself a reward, an encoder, a measure or categories."""


def create_scorer(kind: str, entry: NamedConfig, setting: str) -> Any:
    """A reward, an encoder, a measure or categories by its name.

    A class is constructed with `args`. A function whose first parameters are those of `CALLED_WITH` (by their names,
    with or without a shape suffix: `images`, `images_B3HW`) is itself the reward, and gets `args` at each call. Any
    other function is a factory: it is called with `args` and returns the reward.

    Args:
        kind: a key of `CALLED_WITH`.
        setting: place of the entry, e.g. `rewards.0`.

    Raises:
        UserError: unknown name, or unknown or missing arguments.
    """
    called_with = CALLED_WITH[kind]
    with naming(setting), switches_kept():
        with naming(".name"):
            thing = find(kind, entry.name)
        if _is_called_with(thing, called_with):
            rest = functools.partial(thing, *[None] * len(called_with))
            check_arguments(entry.name, rest, entry.args)
            return functools.update_wrapper(functools.partial(thing, **entry.args), thing) if entry.args else thing
        try:
            check_arguments(entry.name, thing, entry.args)
        except UserError as error:
            if inspect.isclass(thing):
                raise
            parameters = ", ".join(called_with)
            raise UserError(f"{error} (the first parameters of a function of images are: {parameters})") from error
        return thing(**entry.args)


def build_rewards(
    rewards: Sequence[RewardConfig], setting: str, taken: Sequence[WeightedReward] = ()
) -> list[WeightedReward]:
    """Rewards by their names; the second of a name is called NAME#2.

    Args:
        taken: further rewards whose names are in use.
    """
    built: list[WeightedReward] = []
    for number, reward in enumerate(rewards):
        thing = create_scorer("reward", reward, f"{setting}.{number}")
        name = reward.name.rpartition(":")[2]
        count = 1 + sum(other.name.partition("#")[0] == name for other in [*taken, *built])
        built.append(WeightedReward(name if count == 1 else f"{name}#{count}", thing, reward.weight))
    return built


def refuse_split_groups(config: Config, rewards: Sequence[WeightedReward]) -> None:
    """
    Args:
        rewards: those trained on, as built from `config.rewards`.

    Raises:
        UserError: a reward scores whole groups, and the run's processes would split them.
    """
    world, whole = num_processes(config), most_processes_of_whole_groups(config)
    for number, reward in enumerate(rewards):
        if world > whole and getattr(reward.reward, "groupwise", False):
            raise UserError(
                f"rewards.{number}: {reward.name!r} scores whole groups, which {world} processes would split: use at "
                f"most {whole} of them, or a number of groups per optimizer step (prompts.per_iteration / "
                f"objective.updates) that is a multiple of {world}"
            )


def build_encoder(encoder: NamedConfig, setting: str) -> Any:
    return create_scorer("encoder", encoder, setting)


def build_shaping_encoder(config: Config) -> Any:
    """The encoder of the shaping lever: several as one if `encoders` names any."""
    shaping, setting = config.incentive.shaping, "incentive.shaping.encoder"
    if not shaping.encoders:
        return build_encoder(shaping.encoder, setting)
    weighted = enumerate(shaping.encoders)
    return CombinedEncoder([(build_encoder(each, f"{setting}s.{number}"), each.weight) for number, each in weighted])


def prompts_of(config: Config, which: str) -> tuple[str, ...]:
    """The prompts of a list: `train`, `tuning` or `test`."""
    with naming(f"prompts.{which}"):
        return read_prompts(getattr(config.prompts, which))


def _is_called_with(thing: Any, called_with: Sequence[str]) -> bool:
    """Whether a function's first parameters have these names and no defaults."""
    if inspect.isclass(thing):
        return False
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except ValueError:  # some built-in functions have none
        return False
    return len(parameters) >= len(called_with) and all(
        parameter.default is parameter.empty and re.fullmatch(rf"{name}(_[A-Z0-9]+)?", parameter.name)
        for parameter, name in zip(parameters, called_with, strict=False)
    )
