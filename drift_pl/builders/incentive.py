"""Config becomes the method: DRIFT's three levers, or a rival."""

from typing import Any

from drift_pl.builders.scoring import build_shaping_encoder, create_scorer
from drift_pl.config.schema import Config, NamedConfig
from drift_pl.core.errors import UserError, naming
from drift_pl.core.registry import check_arguments, find
from drift_pl.incentive import (
    Band,
    DiversityShaping,
    EmbeddingNoise,
    KeepAll,
    MaxVariance,
    MinVariance,
    NearMedian,
    NoVariation,
    PromptingRule,
    Quantile,
    SelectionRule,
    TextVariants,
)
from drift_pl.incentive.methods.protocol import Rival
from drift_pl.incentive.paraphrases import read_paraphrases


def build_selection(config: Config) -> SelectionRule:
    selection, size = config.incentive.selection, config.prompts.group_size
    keep = selection.keep or -(-3 * size // 4)
    rules: dict[str, Any] = {
        "none": KeepAll,
        "band": lambda: Band(selection.kappa, selection.statistics),
        "quantile": lambda: Quantile(selection.low, selection.high),
        "min_variance": lambda: MinVariance(keep),
        "median": lambda: NearMedian(keep),
        "max_variance": lambda: MaxVariance(keep),
    }
    return rules[selection.rule]()


def build_prompting(config: Config) -> PromptingRule:
    """
    Raises:
        UserError: the rule rewrites prompts and has nothing to rewrite them with.
    """
    prompting = config.incentive.prompting
    if prompting.rule == "none":
        return NoVariation()
    noise = EmbeddingNoise(
        prompting.scale,
        prompting.low,
        prompting.high,
        prompting.anneal_iterations,
        prompting.form,
        prompting.rescale,
        prompting.pooled,
    )
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
    if shaping.weight == 0:
        return None
    return DiversityShaping(
        weight=shaping.weight,
        gamma=shaping.gamma,
        normalise=shaping.normalise,
        floor=shaping.floor,
        potential=shaping.potential,
        gate=shaping.gate,
        gate_quantile=shaping.gate_quantile,
    )


def build_rival(config: Config) -> tuple[Rival, Any]:
    """The method beside the levers, and what it counts images by (or None).

    Raises:
        UserError: the method's arguments are wrong.
    """
    incentive = config.incentive
    if incentive.method == "drift":
        return Rival(), None
    with naming("incentive.method"):
        method = find("method", incentive.method)
    args = dict(incentive.args)
    categories = None
    if method.needs_categories:
        entry = args.pop("categories", {"name": "drift_pl.builtin.categories:AttributeCategories"})
        named = NamedConfig(name=entry["name"], args=entry.get("args", {}))
        categories = create_scorer("categories", named, "incentive.args.categories")
    with naming("incentive"):
        check_arguments(incentive.method, method, args)
        return method(**args), categories


def build_method_encoder(config: Config, rival: Rival) -> Any:
    """The encoder that shaping or the rival looks at images with, or None."""
    needed = config.incentive.shaping.weight > 0 or rival.needs_embeddings
    return build_shaping_encoder(config) if needed else None
