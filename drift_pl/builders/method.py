"""Settings become the method and the update: levers, another method, advantages, the loss."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from drift_pl.builders.scoring import build_shaping_encoder, create_scorer
from drift_pl.config.batches import window_bounds
from drift_pl.config.schema import Config, NamedConfig
from drift_pl.core.errors import UserError, naming
from drift_pl.core.registry import check_arguments, find
from drift_pl.functional.advantage import AdvantageRule
from drift_pl.incentive.method import Method
from drift_pl.incentive.methods.gdpo import Gdpo
from drift_pl.incentive.methods.protocol import RewardMethod
from drift_pl.incentive.paraphrases import read_paraphrases
from drift_pl.incentive.prompting import EmbeddingNoise, PromptingRule
from drift_pl.incentive.selection import (
    Band,
    KeepAll,
    MaxVariance,
    MinVariance,
    NearMedian,
    Quantile,
    SelectionRule,
)
from drift_pl.incentive.shaping import DiversityShaping
from drift_pl.incentive.variants import TextVariants
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.training.updates.protocol import Update

SELECTION_RULES: dict[str, Any] = {
    "none": KeepAll,
    "band": Band,
    "quantile": Quantile,
    "min_variance": MinVariance,
    "median": NearMedian,
    "max_variance": MaxVariance,
}


def build_method(config: Config, judges: Sequence[WeightedReward]) -> Method:
    objective = config.objective
    return Method(
        selection=build_selection(config),
        shaping=build_shaping(config),
        advantage_rule=AdvantageRule(objective.advantage_std, objective.advantage_clip),
        reward_method=build_reward_method(config, judges),
    )


def build_update(config: Config) -> Update:
    """The update of a name, which gets the keys of `objective` that its constructor names, and `trainable_steps`.

    Raises:
        UserError: there is no such update, or its constructor lacks arguments.
    """
    objective = config.objective
    with naming("objective.loss"):
        update = find("update", objective.loss)
    settings = {**vars(objective), "trainable_steps": window_bounds(config.sampler)}
    own = settings.pop("args", {})
    args = {**named_by(update, settings), **own}
    with naming("objective"):
        check_arguments(objective.loss, update, args)
    return update(**args)


def build_selection(config: Config) -> SelectionRule:
    selection = config.incentive.selection
    keep = selection.keep or -(-3 * config.prompts.group_size // 4)
    rule = SELECTION_RULES[selection.rule]
    return rule(**named_by(rule, {**vars(selection), "keep": keep}))


def build_prompting(config: Config) -> PromptingRule:
    """
    Raises:
        UserError: the rule rewrites prompts and has nothing to rewrite them with.
    """
    prompting = config.incentive.prompting
    if prompting.rule == "none":
        return PromptingRule()
    noise = EmbeddingNoise(**named_by(EmbeddingNoise, vars(prompting)))
    if prompting.rule == "embedding_noise":
        return noise
    if not prompting.templates and prompting.paraphrases is None:
        raise UserError(
            f"incentive.prompting.rule={prompting.rule} needs texts: give incentive.prompting.paraphrases=FILE, or "
            "incentive.prompting.templates=['a photo of {prompt}']"
        )
    with naming("incentive.prompting.paraphrases"):
        paraphrases = {} if prompting.paraphrases is None else read_paraphrases(prompting.paraphrases)
    return TextVariants(
        tuple(prompting.templates),
        paraphrases,
        prompting.share,
        noise if prompting.rule == "variants_noise" else None,
    )


def build_shaping(config: Config) -> DiversityShaping | None:
    shaping = config.incentive.shaping
    return DiversityShaping(**named_by(DiversityShaping, vars(shaping))) if shaping.weight > 0 else None


def build_reward_method(config: Config, judges: Sequence[WeightedReward]) -> RewardMethod:
    """What changes rewards, advantages and the divergence beside the levers; `drift` changes none.

    Raises:
        UserError: the method's arguments are wrong.
    """
    incentive = config.incentive
    if incentive.method == "drift":
        normalised = config.objective.reward_normalisation == "per_judge"
        return Gdpo({judge.name: judge.weight for judge in judges}) if normalised else RewardMethod()
    with naming("incentive.method"):
        method = find("method", incentive.method)
    args = {key: value for key, value in incentive.args.items() if key != "categories" or not method.needs_categories}
    with naming("incentive"):
        check_arguments(incentive.method, method, args)
        return method(**args)


def build_categories(config: Config, method: Method) -> Any:
    """What images are counted by, of `incentive.args.categories`; None if the method does not count."""
    if not method.reward_method.needs_categories:
        return None
    entry = config.incentive.args.get("categories", {"name": "drift_pl.builtin.categories:AttributeCategories"})
    named = NamedConfig(name=entry["name"], args=entry.get("args", {}))
    return create_scorer("categories", named, "incentive.args.categories")


def build_method_encoder(config: Config, method: Method) -> Any:
    """The encoder that shaping or another method looks at images with, or None."""
    needed = method.shaping is not None or method.reward_method.needs_embeddings
    return build_shaping_encoder(config) if needed else None


def named_by(constructor: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that a constructor's signature names."""
    parameters = inspect.signature(constructor).parameters.values()
    named = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    return {name: value for name, value in settings.items() if name in named}
