"""Builds rewards, encoders and measures, and reads the lists of prompts."""

import functools
import inspect
import math
from collections.abc import Collection, Sequence
from typing import Any

from drift_pl.config.batches import most_processes_of_whole_groups, world_size
from drift_pl.config.prompt_rewards import LISTS, Choices, prompt_rewards, reward_names
from drift_pl.config.schema import Config, NamedConfig, RewardConfig
from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.registry import construct, find
from drift_pl.core.signatures import CALLED_WITH, check_function, check_signature, signature_of
from drift_pl.evaluation.metrics import DriftMetric, GroupedMetric
from drift_pl.sampling.prompts import read_prompts
from drift_pl.scoring.calls import switches_kept
from drift_pl.scoring.encoders import CombinedEncoder
from drift_pl.scoring.placement import Placed
from drift_pl.scoring.rewards import WeightedReward


def create_scorer(kind: str, entry: NamedConfig, setting: str) -> Any:
    """A reward, an encoder, a measure or categories by its name.

    A class is constructed with `args`. A function whose first parameters are those of `CALLED_WITH` (by their names,
    with or without a shape suffix: `images`, `images_B3HW`) is itself the reward, and gets `args` at each call. Any
    other function is a factory: it is called with `args` and returns the reward.

    Args:
        kind: a key of `CALLED_WITH`.
        setting: place of the entry, e.g. `rewards.0`.

    Raises:
        UserError: unknown name, unknown or missing arguments, or what is made cannot be called as such a thing is.
    """
    thing, is_scorer = check_scorer(kind, entry, setting)
    if is_scorer:
        return functools.update_wrapper(functools.partial(thing, **entry.args), thing) if entry.args else thing
    with naming(setting), switches_kept():
        made = construct(entry.name, thing, entry.args)
        if not isinstance(made, (GroupedMetric, DriftMetric)):
            _refuse_object(kind, entry.name, made)
        return made


def check_scorer(kind: str, entry: NamedConfig, setting: str) -> tuple[Any, bool]:
    """What a name stands for, imported, and whether it is itself called with images; makes nothing.

    Raises:
        UserError: unknown name, unknown or missing arguments, or a class that cannot be called as such a thing is.
    """
    with naming(setting), switches_kept():
        with naming(".name"):
            thing = find(kind, entry.name)
        signature, is_class = signature_of(thing), inspect.isclass(thing)
        if not is_class:
            return thing, check_function(kind, entry.name, signature, entry.args)
        check_signature(entry.name, signature, entry.args)
        if not issubclass(thing, (GroupedMetric, DriftMetric)):
            _refuse_class(kind, entry.name, thing)
        return thing, False


def _refuse_class(kind: str, name: str, thing: type) -> None:
    """Checks how the objects of a class are called by its `__call__`, before one is made.

    Raises:
        UserError: the objects of a class cannot be called as their kind is.
    """
    calls = [vars(base)["__call__"] for base in thing.__mro__ if "__call__" in vars(base)]
    if not calls:
        raise UserError(f"{named()}: {name!r} makes objects that cannot be called; {_called(kind)}")
    if inspect.isfunction(calls[0]):
        _refuse_call(kind, name, functools.partial(calls[0], None))


def _refuse_object(kind: str, name: str, made: Any) -> None:
    """`_refuse_class` for what a factory made."""
    if not callable(made):
        raise UserError(f"{named()}: {name!r} makes {type(made).__name__}, which cannot be called; {_called(kind)}")
    _refuse_call(kind, name, made)


def _refuse_call(kind: str, name: str, called: Any) -> None:
    signature = signature_of(called)
    try:
        if signature is not None:
            signature.bind(*[None] * len(CALLED_WITH[kind]))
    except TypeError as error:
        raise UserError(f"{named()}: {name!r} is called in another way ({error}); {_called(kind)}") from error


def _called(kind: str) -> str:
    article = "an" if kind == "encoder" else "a"
    return f"{article} {kind} is called with ({', '.join(CALLED_WITH[kind])})"


def build_rewards(
    rewards: Sequence[RewardConfig],
    setting: str,
    taken: Sequence[WeightedReward] = (),
    choices: Choices | None = None,
    offload: bool = False,
) -> list[WeightedReward]:
    """Rewards by their names; the second of a name is called NAME#2.

    Args:
        taken: further rewards whose names are in use.
        choices: prompts that name the rewards that score them; None: all score all.
        offload: whether networks wait in main memory between two phases.

    Raises:
        UserError: a reward cannot be made, or not with its precision or device.
    """
    built: list[WeightedReward] = []
    for number, name in enumerate(reward_names(rewards, [other.name for other in taken])):
        thing, entry = create_scorer("reward", rewards[number], f"{setting}.{number}"), rewards[number]
        if entry.dtype or entry.device:
            with naming(f"{setting}.{number}"):
                thing = Placed(thing, entry.dtype, entry.device, offload)
        left_out = frozenset(prompt for prompt, names in (choices or {}).items() if name not in names)
        built.append(WeightedReward(name, thing, rewards[number].weight, left_out))
    return built


def build_run_rewards(config: Config, lists: Collection[str] = LISTS) -> list[WeightedReward]:
    """The rewards of `config.rewards`; each leaves out the prompts that name others.

    Args:
        lists: the prompts that will be scored, see `prompt_rewards`.

    Raises:
        UserError: a reward cannot be made, or a list names one that is not there.
    """
    choices = prompt_rewards(config, lists)
    return build_rewards(config.rewards, "rewards", choices=choices, offload=config.policy.offload)


def refuse_split_groups(config: Config, rewards: Sequence[WeightedReward]) -> None:
    """Checks that every group stays on one process if a reward compares the images of a group.

    Args:
        rewards: those trained on, as built from `config.rewards`.

    Raises:
        UserError: a reward scores whole groups, and the run's processes would split them.
    """
    world, whole = world_size(config), most_processes_of_whole_groups(config)
    for number, reward in enumerate(rewards):
        if world > whole and getattr(reward.reward, "groupwise", False):
            raise UserError(
                f"rewards.{number}: {reward.name!r} scores whole groups, which {world} processes would split: use "
                f"{whole} of them, or a number of groups per optimizer step (prompts.per_iteration / "
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


def overlap(config: Config, rewards: Sequence[WeightedReward]) -> tuple[int, bool]:
    """Groups per call of the rewards, and whether they are called beside the sampling.

    By default they are if all of them are asked over HTTP: whole requests then, so that servers see the same ones.
    """
    groups, thread = config.trainer.judge_groups, config.trainer.judge_thread
    sizes = [getattr(reward.reward, "images_per_request", 0) for reward in rewards]
    if thread is None:
        thread = all(sizes)
        groups = groups or (math.lcm(config.prompts.group_size, *sizes) // config.prompts.group_size if thread else 0)
    return groups, thread
