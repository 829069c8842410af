"""The section `incentive`: the three levers, or a rival method."""

from typing import Any, Literal, Self

from pydantic import model_validator

from drift_pl.config.fields import ABOVE_ZERO, GIVEN, Flag, setting
from drift_pl.config.schema_method import EncoderConfig, NamedConfig, refuse_kind
from drift_pl.config.schema_model import WEIGHTS
from drift_pl.config.section import Section
from drift_pl.core.errors import UserError

SELECTION, PROMPTING = "incentive.selection.rule", "incentive.prompting.rule"
BAND, QUANTILE = (SELECTION, "band"), (SELECTION, "quantile")
NOISE = (PROMPTING, "embedding_noise", "variants_noise", "expansions_noise")
VARIANTS, EXPANSIONS = (PROMPTING, "variants", "variants_noise"), (PROMPTING, "expansions", "expansions_noise")
TEXTS = (*VARIANTS, *EXPANSIONS[1:])
VARIED = (*TEXTS, "embedding_noise")
SHAPED, AIMED = ("incentive.shaping.weight", ABOVE_ZERO), ("incentive.shaping.target", ABOVE_ZERO)


class WriterConfig(NamedConfig):
    name: str = setting(..., "a registered name, or `their_package.module:Thing`", registry="writer", example="chat")


def _refuse_empty_interval(section: str, low: float, high: float, example: str) -> None:
    if not 0 <= low < high <= 1:
        raise UserError(f"{section}.low={low} and high={high} must satisfy 0 <= low < high <= 1, e.g. {example}")


class SelectionConfig(Section):
    rule: Literal["none", "band", "quantile", "min_variance", "median", "max_variance"] = setting(
        "none", "which images of a group are trained on"
    )
    kappa: float = setting(2.0, "half-width in spreads of the group's rewards", gt=0, only=BAND)
    statistics: Literal["median", "mean"] = setting(
        "median", "median (with 1.4826 x median absolute deviation), mean (with std)", only=BAND
    )
    low: float = setting(0.0, "lowest kept quantile of the group's rewards; 0 drops the top tail only", only=QUANTILE)
    high: float = setting(0.9, "highest kept quantile", only=QUANTILE)
    keep: int = setting(
        0,
        "images kept of each group; 0: three quarters",
        ge=0,
        only=(SELECTION, "min_variance", "median", "max_variance"),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_empty_interval("incentive.selection", self.low, self.high, "0 and 0.9")
        return self


class PromptingConfig(Section):
    rule: Literal["none", "embedding_noise", "variants", "variants_noise", "expansions", "expansions_noise"] = setting(
        "none", "how each image's condition varies"
    )
    update: Literal["varied", "clean"] = setting(
        "varied",
        "the condition that an image is learnt under: varied (that of its rollout), clean (the prompt's own; nft, awm)",
        only=VARIED,
    )
    scale: float = setting(0.1, "s, in standard deviations of the prompt's own tokens; cads: of 1", ge=0, only=NOISE)
    low: float = setting(0.6, "tau1, noise level (1 noise .. 0 image) up to which nothing is added", only=NOISE)
    high: float = setting(0.9, "tau2, noise level from which the full noise is added", only=NOISE)
    form: Literal["additive", "cads"] = setting(
        "additive", "additive (the prompt stays), cads (it fades as the noise sets in)", only=NOISE
    )
    rescale: float = setting(0.0, "share psi of the original mean and spread restored; CADS: 1", ge=0, le=1, only=NOISE)
    pooled: Flag = setting(False, "vary the pooled embedding as well", only=NOISE)
    templates: list[str] = setting([], "texts with {prompt}, e.g. 'a photo of {prompt}'", only=VARIANTS)
    paraphrases: str | None = setting(None, "JSON lines of {prompt, paraphrases}", only=TEXTS)
    vocabulary: str | None = setting(
        None,
        "JSON lines of word lists and templates, from which texts name what a prompt leaves open",
        only=EXPANSIONS,
        example="pkg:drift_pl.builtin/prompts/vocabulary.jsonl",
    )
    writers: list[WriterConfig] = setting(
        [], "what writes texts that name what a prompt leaves open, such as a language model", only=EXPANSIONS
    )
    texts: int = setting(40, "texts per prompt, of a vocabulary or of each writer", ge=1, le=1000, only=EXPANSIONS)
    named: int = setting(
        0,
        "open attributes that a text of a vocabulary names at most; 0: all",
        ge=0,
        only=("incentive.prompting.vocabulary", GIVEN),
        example="2",
    )
    share: float = setting(
        1.0,
        "probability that an image draws one of its prompt's texts, which with variants include the prompt",
        ge=0,
        le=1,
        only=TEXTS,
        example="0.5",
    )
    anneal_iterations: int = setting(0, "iterations of a linear fall of the scale to zero; 0: none", ge=0, only=NOISE)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _refuse_empty_interval("incentive.prompting", self.low, self.high, "0.6 and 0.9")
        sources = {"vocabulary": self.vocabulary, "paraphrases": self.paraphrases, "writers": self.writers}
        given = [f"incentive.prompting.{name}" for name, value in sources.items() if value]
        if self.rule in EXPANSIONS and len(given) != 1:
            raise UserError(
                f"incentive.prompting.rule={self.rule} takes its texts from one source, and "
                f"{' and '.join(given) or 'none'} {'are' if len(given) > 1 else 'is'} given: use one of "
                "incentive.prompting.vocabulary=FILE, incentive.prompting.paraphrases=FILE, or "
                "incentive.prompting.writers=[{name: chat, args: {url: ..., model: ...}}]"
            )
        if self.rule in VARIANTS and not self.templates and self.paraphrases is None:
            raise UserError(
                f"incentive.prompting.rule={self.rule} needs texts: give incentive.prompting.paraphrases=FILE, or "
                "incentive.prompting.templates=['a photo of {prompt}']"
            )
        return self


class ShapingConfig(Section):
    weight: float = setting(0.0, "alpha: weight of the diversity potential in the advantage; 0 switches it off", ge=0)
    target: float = setting(
        0.0,
        "share of the base model's group diversity that the weight is adjusted to keep; 0: the weight is fixed",
        ge=0,
        le=2,
        only=SHAPED,
        example="0.95",
    )
    target_gain: float = setting(1.0, "how fast a target adjusts the weight, per iteration", gt=0, le=10, only=AIMED)
    target_low: float = setting(0.1, "lowest weight of a target", gt=0, only=AIMED)
    target_high: float = setting(100.0, "highest weight of a target", gt=0, only=AIMED)
    gamma: float = setting(
        1.0, "discount of potential-based shaping; the bonus is scaled by gamma^T", ge=0, le=1, only=SHAPED
    )
    potential: Literal["mean", "nearest", "logdet", "vendi"] = setting(
        "mean", "d_i: mean or nearest distance to the others, logdet or vendi: leave-one-out gain", only=SHAPED
    )
    normalise: Literal["raw", "minmax", "centred", "residual"] = setting(
        "raw",
        "raw: absolute; minmax: relative to the group's range; centred: minus the mean over images with a bonus; "
        "residual: and minus its regression on their rewards",
        only=SHAPED,
    )
    form: Literal["terminal", "per_step"] = setting(
        "terminal", "terminal: one bonus per image; per_step: potentials of the predicted clean images", only=SHAPED
    )
    gate: Literal["none", "median", "quantile"] = setting(
        "none", "which images get the bonus: none (all), median, quantile (reward at or above the group's)", only=SHAPED
    )
    gate_quantile: float = setting(0.5, "the gate's quantile", ge=0, le=1, only=("incentive.shaping.gate", "quantile"))
    floor: float = setting(
        0.05, "smallest spread stretched to [0, 1]", gt=0, only=("incentive.shaping.normalise", "minmax")
    )
    encoder: NamedConfig = setting(
        NamedConfig(name="dino", args={"pretrained": f"{WEIGHTS}/shaping_encoder"}),
        "encoder; not that of the evaluation",
    )
    encoders: list[EncoderConfig] = setting([], "several encoders with weights, in place of `encoder`")

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse_kind("incentive.shaping.encoder", self.encoder, pairs=False)
        for number, encoder in enumerate(self.encoders):
            refuse_kind(f"incentive.shaping.encoders.{number}", encoder, pairs=False)
            if encoder.weight <= 0:
                raise UserError(
                    f"incentive.shaping.encoders.{number}.weight={encoder.weight} must be positive: use e.g. 1.0"
                )
        self._check_target()
        return self

    def _check_target(self) -> None:
        low, high = self.target_low, self.target_high
        if not low < high:
            raise UserError(
                f"incentive.shaping.target_low={low} and target_high={high} must satisfy low < high, e.g. 0.1 and 100"
            )
        if self.target and not low <= self.weight <= high:
            raise UserError(
                f"incentive.shaping.target={self.target} adjusts incentive.shaping.weight={self.weight}, which must "
                f"start within target_low={low} and target_high={high}: use e.g. incentive.shaping.weight="
                f"{min(high, max(low, 5.0)):g}"
            )


class IncentiveConfig(Section):
    method: str = setting(
        "drift", "drift: the three levers; or a rival method, without shaping", registry="method", also=("drift",)
    )
    args: dict[str, Any] = setting({}, "keyword arguments of a rival method")
    selection: SelectionConfig = setting(SelectionConfig(), "lever 1: a reward-concentrated subset of each group")
    prompting: PromptingConfig = setting(PromptingConfig(), "lever 2: stochastic variation of the condition")
    shaping: ShapingConfig = setting(ShapingConfig(), "lever 3: potential-based shaping with intra-group diversity")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "drift" and self.args:
            raise UserError("incentive.args is for a rival method: name one, e.g. incentive.method=gardo, or drop it")
        if self.method != "drift" and self.shaping.weight > 0:
            raise UserError(
                f"incentive.method={self.method} has its own diversity term: set incentive.shaping.weight=0"
            )
        return self
