"""Config becomes what scores and what measures: judges, encoders, held-out evaluation."""

import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from drift_pl.config.schema import Config, NamedConfig, RewardConfig
from drift_pl.core.errors import UserError
from drift_pl.core.registry import check_arguments, find
from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.sampling.prompts import read_prompts
from drift_pl.scoring import ENCODERS, REWARDS
from drift_pl.scoring.encoders import CombinedEncoder
from drift_pl.scoring.rewards import Judge
from drift_pl.training.callbacks.evaluation import EvaluationPlan

IMAGES = ("images",)
IMAGES_AND_PROMPTS = ("images", "prompts")


def create_scorer(
    key: str, named: NamedConfig, table: Mapping[str, Any], group: str, called_with: Sequence[str]
) -> Any:
    """What a name stands for: a judge, an encoder or a measure.

    A class is constructed with `args`. A function whose first parameters are those of `called_with` (by their names,
    with or without a shape suffix: `images`, `images_B3HW`) is itself the judge, and gets `args` at each call. Any
    other function is a factory: it is called with `args` and returns the judge.

    Raises:
        UserError: unknown name, or arguments that the thing does not take or lacks.
    """
    thing = find(key, named.name, table, group)
    if _is_called_with(thing, called_with):
        rest = functools.partial(thing, *[None] * len(called_with))
        check_arguments(key, named.name, rest, named.args)
        return functools.update_wrapper(functools.partial(thing, **named.args), thing) if named.args else thing
    try:
        check_arguments(key, named.name, thing, named.args)
    except UserError as error:
        if inspect.isclass(thing):
            raise
        parameters = ", ".join(called_with)
        raise UserError(f"{error} (a function that is to be called with images begins: {parameters})") from error
    return thing(**named.args)


def build_judges(rewards: Sequence[RewardConfig], key: str) -> list[Judge]:
    """Named judges; two of one name are told apart by a number."""
    judges: list[Judge] = []
    for number, reward in enumerate(rewards):
        thing = create_scorer(f"{key}.{number}", reward, REWARDS, "drift_pl.rewards", IMAGES_AND_PROMPTS)
        name = reward.name.rpartition(":")[2]
        taken = sum(judge.name.partition("#")[0] == name for judge in judges)
        judges.append(Judge(f"{name}#{taken + 1}" if taken else name, thing, reward.weight))
    return judges


def build_encoder(encoder: NamedConfig, key: str) -> Any:
    return create_scorer(key, encoder, ENCODERS, "drift_pl.encoders", IMAGES)


def build_shaping_encoder(config: Config) -> Any:
    """The encoder of the shaping lever: several as one if `encoders` names any."""
    shaping, key = config.incentive.shaping, "incentive.shaping.encoder"
    if not shaping.encoders:
        return build_encoder(shaping.encoder, key)
    return CombinedEncoder(
        [
            (build_encoder(encoder, f"{key}s.{number}"), encoder.weight)
            for number, encoder in enumerate(shaping.encoders)
        ]
    )


def build_evaluator(config: Config, judges: Sequence[Judge]) -> Evaluator:
    evaluation = config.evaluation
    return Evaluator(
        judges=judges,
        encoder=build_encoder(evaluation.encoder, "evaluation.encoder"),
        lpips=build_encoder(evaluation.lpips, "evaluation.lpips"),
        micro_batch=config.objective.micro_batch,
        heldout_judges=build_judges(evaluation.rewards, "evaluation.rewards"),
        measures=[
            create_scorer(f"evaluation.measures.{number}", measure, {}, "drift_pl.measures", IMAGES_AND_PROMPTS)
            for number, measure in enumerate(evaluation.measures)
        ],
        grid_prompts=evaluation.grid_prompts,
        grid_seeds=evaluation.grid_seeds,
        vendi_order=evaluation.vendi_order,
        extra=tuple(evaluation.extra),
    )


def build_evaluation_plan(config: Config) -> EvaluationPlan:
    guidance = config.sampler.eval_guidance_scale
    limit = config.evaluation.max_prompts or None
    return EvaluationPlan(
        steps=config.sampler.eval_steps,
        guidance_scale=config.policy.guidance_scale if guidance is None else guidance,
        negative_prompt=config.policy.negative_prompt,
        tuning_prompts=read_prompts(config.prompts.tuning, "prompts.tuning")[:limit],
        test_prompts=read_prompts(config.prompts.test, "prompts.test")[:limit],
        every=config.evaluation.every,
        test_seeds=config.evaluation.seeds_per_prompt,
        tuning_seeds=config.evaluation.seeds_while_training,
        importance_power=config.sampler.eval_importance_power,
        lora_scale=config.sampler.eval_lora_scale,
        resolution=config.evaluation.resolution,
        kind=config.sampler.kind,
    )


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
