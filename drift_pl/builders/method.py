"""Builds the method and the update: levers or another method, advantages, the loss."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drift_pl.builders.arguments import arguments, named_by
from drift_pl.builders.expansions import expansion_texts
from drift_pl.builders.scoring import build_shaping_encoder, create_scorer
from drift_pl.config.batches import images_selected, window_bounds
from drift_pl.config.processes import is_first_launched
from drift_pl.config.prompt_rewards import reward_names
from drift_pl.config.schema import Config, NamedConfig
from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.registry import TABLES, construct, find
from drift_pl.core.signatures import check_signature, signature_of
from drift_pl.functional.advantage import AdvantageRule
from drift_pl.incentive.expansions import Expansions
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
from drift_pl.incentive.target import WeightTarget
from drift_pl.incentive.variants import TextVariants
from drift_pl.incentive.vocabulary_file import TEMPLATE_LINE
from drift_pl.training.updates.protocol import Update

SMALLEST_MATCHING_CLIP = 0.01
"""Below it a clip range is one of a surrogate's, whose log-ratios are means over many elements of a sampled step."""
SELECTION_RULES: dict[str, Any] = {
    "none": KeepAll,
    "band": Band,
    "quantile": Quantile,
    "min_variance": MinVariance,
    "median": NearMedian,
    "max_variance": MaxVariance,
}


def build_method(config: Config) -> Method:
    """The method of a config: selection, shaping and its target, the advantage rule, and the reward method.

    Raises:
        UserError: a method's arguments are wrong, or it needs rewards that the run does not have.
    """
    objective = config.objective
    return Method(
        selection=build_selection(config),
        shaping=build_shaping(config),
        target=build_target(config),
        advantage_rule=AdvantageRule(objective.advantage_std, objective.advantage_clip),
        reward_method=build_reward_method(config),
    )


def build_update(config: Config) -> Update:
    """The update, given the keys of `objective` that its constructor names, and `trainable_steps`.

    Raises:
        UserError: there is no such update, or its constructor lacks arguments.
    """
    objective, steps = config.objective, {"trainable_steps": window_bounds(config.sampler)}
    with naming("objective.loss"):
        update = find("update", objective.loss)
    given = arguments("update", "objective.loss", update, objective, steps)
    if is_first_launched(config):
        _warn_of_doubts(config)
    with naming("objective.loss"):
        made = construct(objective.loss, update, given)
        lacks = [name for name in ("keep", "updates", "run") if not hasattr(made, name)]
        if lacks:
            raise UserError(
                f"{named(repr(objective.loss))} has no {lacks[0]!r}: it must follow drift_pl.training.updates.protocol."
                "Update, as subclasses of drift_pl.training.updates.passes.Passes do"
            )
        return made


def _warn_of_doubts(config: Config) -> None:
    """Settings under which an update may be wrong, or hardly learns."""
    objective, prompting = config.objective, config.incentive.prompting
    name = f"objective.loss={objective.loss}"
    if objective.loss not in TABLES["update"] and prompting.update == "clean" and prompting.rule != "none":
        warnings.warn(
            f"incentive.prompting.update=clean gives {name} the clean conditions, under which the steps were not "
            "sampled: right for an update that trains on the final images; for one that replays steps use "
            "incentive.prompting.update=varied",
            stacklevel=1,
        )
    steps = objective.updates * objective.inner_epochs
    if objective.loss == "awm" and objective.clip_range < SMALLEST_MATCHING_CLIP and steps > 1:
        warnings.warn(
            f"objective.clip_range={objective.clip_range:g} with {name} clips nearly all images after the first of "
            f"{steps} optimizer steps, because its log-ratios are of the size of losses: use objective.clip_range=1, "
            "as published",
            stacklevel=1,
        )


def build_selection(config: Config) -> SelectionRule:
    selection = config.incentive.selection
    keep = images_selected(selection.keep, config.prompts.group_size)
    rule = SELECTION_RULES[selection.rule]
    return rule(**named_by(rule, {**vars(selection), "keep": keep}))


def build_prompting(config: Config, prompts: Sequence[str] = (), run_dir: Path | None = None) -> PromptingRule:
    """The rule of the prompting lever: which texts and embedding noise the images of a prompt are sampled with.

    Args:
        prompts: all that are trained on; expansions need them.
        run_dir: where texts that a writer has written are kept.

    Raises:
        UserError: the rule rewrites prompts and has no other text for any of them.
    """
    prompting = config.incentive.prompting
    if prompting.rule == "none":
        return PromptingRule()
    noise = EmbeddingNoise(**named_by(EmbeddingNoise, vars(prompting)))
    if prompting.rule == "embedding_noise":
        return noise
    further = noise if prompting.rule.endswith("_noise") else None
    if prompting.rule.startswith("expansions"):
        texts = expansion_texts(config, prompts, run_dir)
        rule = Expansions(paraphrases=texts, share=prompting.share, noise=further, group_size=config.prompts.group_size)
        _refuse_nothing_new(config, rule, prompts)
        return rule
    with naming("incentive.prompting.paraphrases"):
        paraphrases = {} if prompting.paraphrases is None else read_paraphrases(prompting.paraphrases)
    variants = TextVariants(tuple(prompting.templates), paraphrases, prompting.share, further)
    _refuse_nothing_new(config, variants, prompts)
    return variants


def _refuse_nothing_new(config: Config, rule: TextVariants, prompts: Sequence[str]) -> None:
    """Checks that text variants change at least one prompt, because the lever would have no effect otherwise.

    Raises:
        UserError: the rule has no other text than the prompt itself for any of the prompts.
    """
    if prompts and not any(len(rule.candidates(prompt)) > 1 for prompt in prompts):
        prompting, line = config.incentive.prompting, {"prompt": prompts[0], "paraphrases": [f"{prompts[0]}, at night"]}
        examples = {"vocabulary": TEMPLATE_LINE, "paraphrases": json.dumps(line, ensure_ascii=False)}
        source = next((name for name in examples if getattr(prompting, name)), "templates")
        example = examples.get(source, "a photo of {prompt}")
        raise UserError(
            f"incentive.prompting.rule={prompting.rule} has another text for none of {len(set(prompts))} prompts of "
            f"prompts.train: give some, incentive.prompting.{source}, such as {example}"
        )


def build_shaping(config: Config) -> DiversityShaping | None:
    shaping = config.incentive.shaping
    return DiversityShaping(**named_by(DiversityShaping, vars(shaping))) if shaping.weight > 0 else None


def build_target(config: Config) -> WeightTarget | None:
    shaping = config.incentive.shaping
    if not shaping.target or not shaping.weight:
        return None
    return WeightTarget(shaping.target, shaping.target_gain, shaping.target_low, shaping.target_high)


def build_reward_method(config: Config) -> RewardMethod:
    """The method that changes rewards, advantages and the divergence; `drift` changes none.

    Raises:
        UserError: the method's arguments are wrong, or it needs rewards that the run does not have.
    """
    incentive, names = config.incentive, reward_names(config.rewards)
    if incentive.method == "drift":
        normalised = config.objective.reward_normalisation == "per_judge"
        weights = [reward.weight for reward in config.rewards]
        return Gdpo(dict(zip(names, weights, strict=True))) if normalised else RewardMethod()
    with naming("incentive.method"):
        method = find("method", incentive.method)
    args = {key: value for key, value in incentive.args.items() if key != "categories" or not method.needs_categories}
    with naming("incentive"):
        check_signature(incentive.method, signature_of(method), args)
        made: RewardMethod = construct(incentive.method, method, args)
        made.check_rewards(names)
        return made


def build_categories(config: Config, method: Method) -> Any:
    """The categories of `incentive.args.categories`; None if the method does not count images by category."""
    if not method.reward_method.needs_categories:
        return None
    return create_scorer("categories", categories_of(config), "incentive.args.categories")


def categories_of(config: Config) -> NamedConfig:
    """`incentive.args.categories`, or that of the built-in world.

    Raises:
        UserError: it is no name with arguments.
    """
    given = config.incentive.args.get("categories", {"name": "drift_pl.builtin.categories:AttributeCategories"})
    try:
        return NamedConfig.model_validate(given)
    except ValueError as error:
        works = "{name: my_module:Thing, args: {}}"
        raise UserError(f"incentive.args.categories={given} is no name with arguments: use e.g. {works}") from error


def build_method_encoder(config: Config, method: Method) -> Any:
    """The encoder whose embeddings shaping or another method uses; None if neither does."""
    needed = method.shaping is not None or method.reward_method.needs_embeddings
    return build_shaping_encoder(config) if needed else None
