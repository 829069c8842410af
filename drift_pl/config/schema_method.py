"""The sections `incentive` and `objective`: the levers or a rival method, and the base algorithm."""

from typing import Any, Literal, Self

from pydantic import model_validator

from drift_pl.config.fields import ELSEWHERE, Automatic, Flag, neutral, setting
from drift_pl.config.schema_model import WEIGHTS, refuse_args_of_own
from drift_pl.config.section import Section
from drift_pl.core.errors import UserError
from drift_pl.core.registry import TABLES

SELECTION, PROMPTING = "incentive.selection.rule", "incentive.prompting.rule"
BAND, QUANTILE = (SELECTION, "band"), (SELECTION, "quantile")
NOISE = (PROMPTING, "embedding_noise", "variants_noise", "expansions_noise")
VARIANTS, EXPANSIONS = (PROMPTING, "variants", "variants_noise"), (PROMPTING, "expansions", "expansions_noise")
TEXTS = (*VARIANTS, *EXPANSIONS[1:])
VARIED = (*TEXTS, "embedding_noise")
SURROGATE, NFT = ("objective.loss", "surrogate"), ("objective.loss", "nft")
LAGGING = ("objective.loss", "nft")


class NamedConfig(Section):
    """A thing by its name, with its arguments."""

    name: str = setting(..., "a registered name, or `their_package.module:Thing`", example=ELSEWHERE)
    args: dict[str, Any] = setting({}, "keyword arguments of its constructor")


def refuse_kind(setting: str, encoder: NamedConfig, pairs: bool) -> None:
    """An encoder embeds images, or gives distances of pairs; of this package's names it is known which.

    Raises:
        UserError: it is of the other kind.
    """
    entries = TABLES["encoder"]
    if encoder.name in entries and entries[encoder.name].pairs != pairs:
        does, takes = ("embeds images", "distances of pairs") if pairs else ("gives distances of pairs", "embeddings")
        use = " or ".join(name for name, entry in entries.items() if entry.pairs == pairs)
        raise UserError(f"{setting}.name={encoder.name} {does}, and this setting takes {takes}: use {use}")


class RewardConfig(NamedConfig):
    name: str = setting(..., "a registered name, or `their_package.module:Thing`", example="jpeg_compressibility")
    weight: float = setting(1.0, "its factor in the weighted sum of rewards")


class EncoderConfig(NamedConfig):
    weight: float = setting(1.0, "its share in the similarity of two images")


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
        "the condition that an image is learnt under: varied (that of its rollout), clean (the prompt's own; nft only)",
        only=VARIED,
    )
    scale: float = setting(0.1, "s, in standard deviations of the prompt's own tokens", ge=0, only=NOISE)
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
        0, "open attributes that a text of a vocabulary names at most; 0: all", ge=0, only=EXPANSIONS, example="2"
    )
    share: float = setting(
        1.0, "probability that an image's prompt is rewritten", ge=0, le=1, only=TEXTS, example="0.5"
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
        return self


class ShapingConfig(Section):
    weight: float = setting(0.0, "alpha: weight of the diversity potential in the advantage; 0 switches it off", ge=0)
    gamma: float = setting(1.0, "discount of potential-based shaping; the bonus is scaled by gamma^T", ge=0)
    potential: Literal["mean", "nearest", "logdet", "vendi"] = setting(
        "mean", "d_i: mean or nearest distance to the others, logdet or vendi: leave-one-out gain"
    )
    normalise: Literal["raw", "minmax", "centred"] = setting(
        "raw", "raw: absolute; minmax: relative to the group's range; centred: minus the mean over images with a bonus"
    )
    form: Literal["terminal", "per_step"] = setting(
        "terminal", "terminal: one bonus per image; per_step: potentials of the predicted clean images"
    )
    gate: Literal["none", "median", "quantile"] = setting(
        "none", "which images get the bonus: none (all), median, quantile (reward at or above the group's)"
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
        return self


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


class ObjectiveConfig(Section):
    loss: str = setting("surrogate", "the loss of the base algorithm", registry="update")
    args: dict[str, Any] = setting({}, "keyword arguments of a loss from elsewhere")
    nft_times: int = setting(4, "noise levels per image", ge=1, only=NFT)
    noise_levels: Literal["uniform", "sampler"] = setting(
        "uniform", "uniform: stratified over (0, 1); sampler: levels of the rollout's grid", only=NFT
    )
    nft_beta: float = setting(1.0, "strength of the pull towards the old policy", gt=0, only=NFT)
    branch_weight: Literal["shared", "own"] = setting(
        "shared", "error by which a branch of the loss is divided: shared (the old policy's), own (its own)", only=NFT
    )
    kl_scale: Literal["weighted", "plain"] = setting(
        "weighted", "the divergence is weighted like the loss, or plain", only=NFT
    )
    adv_mode: Literal["all", "positive_only", "negative_only", "one_only", "binary"] = setting(
        "all", "which advantages count; one_only: 1 if positive, else 0; binary: their signs", only=NFT
    )
    old_decay_max: float = setting(
        0.0,
        "most of an old policy that is kept after an iteration; 0: none (on policy)",
        ge=0,
        lt=1,
        only=LAGGING,
        example="0.5",
    )
    old_decay_rate: float = setting(0.001, "rise of the kept share per optimizer step", gt=0, only=LAGGING)
    old_decay_after: int = setting(0, "optimizer steps before the kept share rises from 0", ge=0, only=LAGGING)
    clip_range: float = setting(1e-4, "clip of the ratio, whose logs are means over latents", gt=0, only=SURROGATE)
    advantage_clip: float = setting(5.0, "largest magnitude of an advantage", gt=0)
    advantage_std: Literal["group", "global", "kept", "none"] = setting("group", "what a centred reward is divided by")
    kl_weight: float = setting(0.0, "beta: weight of the divergence from the reference model", ge=0)
    reward_normalisation: Literal["sum", "per_judge"] = setting(
        "sum", "several rewards: sum, or per_judge (each by its own group spread: GDPO)"
    )
    kl_form: Literal["exact", "flow_grpo", "mean"] = setting(
        "exact", "exact: Gaussian KL of a step; flow_grpo: times the step length; mean: without std", only=SURROGATE
    )
    ratio: Literal["plain", "guard"] = setting(
        "plain", "plain, or guard: GRPO-Guard's ratio, with the same mean and scale at every step", only=SURROGATE
    )
    step_weights: Literal["none", "inverse_length", "std"] = setting(
        "none", "weight of a step's loss; inverse_length: GRPO-Guard", only=SURROGATE
    )
    skip_zero_advantage: Flag = setting(True, "leave images of zero advantage out of the update's forward passes")
    inner_epochs: int = setting(1, "passes over an iteration's images", ge=1)
    updates: int = setting(2, "optimizer steps per pass; each takes an equal share of the groups", ge=1)
    micro_batch: Automatic = neutral(
        8, "images per forward pass, in training and rollouts; auto (or 0): measured when the run begins", ge=0
    )
    learning_rate: float = setting(3e-4, "AdamW learning rate", gt=0)
    weight_decay: float = setting(1e-4, "AdamW weight decay", ge=0)
    warmup: int = setting(0, "iterations over which the learning rate rises linearly", ge=0)
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm", gt=0)
    ema_decay: float = setting(
        0.0, "decay of the weight average that is evaluated and exported; 0: none", ge=0, lt=1, example="0.9"
    )
    ema_every: int = setting(1, "optimizer steps between two updates of that average", ge=1, le=65536)

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse_args_of_own(self, "objective", "loss")
        return self
