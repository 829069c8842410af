"""The section `objective`, the base algorithm; and things that are named, with arguments."""

from typing import Any, Literal, Self

from pydantic import model_validator

from drift_pl.config.fields import ABOVE_ZERO, ELSEWHERE, Automatic, Flag, neutral, setting
from drift_pl.config.schema_model import refuse_args_of_own
from drift_pl.config.section import Section
from drift_pl.core.errors import UserError
from drift_pl.core.registry import TABLES

LOSS = "objective.loss"
STEPS, IMAGES = (LOSS, "surrogate", "flow_dppo"), (LOSS, "nft", "awm")
LAGGING = ("objective.old_decay_max", ABOVE_ZERO)
CLIPPED, DPPO, NFT, AWM = (LOSS, "surrogate", "awm"), (LOSS, "flow_dppo"), (LOSS, "nft"), (LOSS, "awm")


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
    dtype: Literal["float32", "bfloat16", "float16"] | None = setting(
        None, "precision of its network, but for the last linear layers; null: as it is, float32"
    )
    device: str | None = neutral(
        None, "where its network scores, such as cuda:1 or cpu; null: with the others", example="cpu"
    )


class EncoderConfig(NamedConfig):
    weight: float = setting(1.0, "its share in the similarity of two images")


class ObjectiveConfig(Section):
    loss: str = setting("surrogate", "the loss of the base algorithm", registry="update")
    args: dict[str, Any] = setting({}, "keyword arguments of a loss from elsewhere")
    nft_times: int = setting(4, "noise levels per image", ge=1, le=1000, only=IMAGES)
    noise_levels: Literal["uniform", "sampler"] = setting(
        "uniform", "uniform: stratified over (0, 1); sampler: levels of the rollout's grid", only=IMAGES
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
        only=IMAGES,
        example="0.5",
    )
    old_decay_rate: float = setting(0.001, "rise of the kept share per optimizer step", gt=0, only=LAGGING)
    old_decay_after: int = setting(0, "optimizer steps before the kept share rises from 0", ge=0, only=LAGGING)
    clip_range: float = setting(1e-4, "clip of the ratio, whose logs are means over latents", gt=0, only=CLIPPED)
    kl_limit: float = setting(
        1e-7, "divergence, mean over latents, above which no step leads further away", gt=0, only=DPPO
    )
    awm_weighting: Literal["uniform", "t", "t2", "huber", "ghuber"] = setting(
        "ghuber", "what a matching loss weighs at noise level t", only=AWM
    )
    awm_power: float = setting(0.25, "power of ghuber", gt=0, le=1, only=("objective.awm_weighting", "ghuber"))
    awm_pull: float = setting(0.0, "pull towards a policy that lags behind (old_decay_*); published 1", ge=0, only=AWM)
    advantage_clip: float = setting(5.0, "largest magnitude of an advantage", gt=0)
    advantage_std: Literal["group", "global", "kept", "none"] = setting("group", "what a centred reward is divided by")
    kl_weight: float = setting(0.0, "beta: weight of the divergence from the reference model", ge=0)
    reward_normalisation: Literal["sum", "per_judge"] = setting(
        "sum", "several rewards: sum, or per_judge (each by its own group spread: GDPO)"
    )
    kl_form: Literal["exact", "flow_grpo", "mean"] = setting(
        "exact", "exact: Gaussian KL of a step; flow_grpo: times the step length; mean: without std", only=STEPS
    )
    ratio: Literal["plain", "guard", "unscaled"] = setting(
        "plain",
        "plain; guard: GRPO-Guard's, centred at 1 at every step, without 1 / std; unscaled: without 1 / (2 std^2), "
        "Flow-CPS's",
        only=STEPS,
    )
    step_weights: Literal["none", "inverse_length", "std"] = setting(
        "none", "weight of a step's loss; inverse_length: GRPO-Guard", only=STEPS
    )
    skip_zero_advantage: Flag = setting(True, "leave images of zero advantage out of the update's forward passes")
    inner_epochs: int = setting(1, "passes over an iteration's images", ge=1)
    updates: int = setting(2, "optimizer steps per pass; each takes an equal share of the groups", ge=1)
    micro_batch: Automatic = neutral(
        8, "images per forward pass, in training and rollouts; auto (or 0): measured when the run begins", ge=0
    )
    optimizer: Literal["adamw", "adamw8bit"] = setting(
        "adamw", "adamw; adamw8bit: its moments take a byte each (needs bitsandbytes; for policy.tuning=full)"
    )
    learning_rate: float = setting(3e-4, "AdamW learning rate", gt=0)
    weight_decay: float = setting(1e-4, "AdamW weight decay", ge=0)
    warmup: int = setting(0, "iterations over which the learning rate rises linearly", ge=0)
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm", gt=0)
    ema_decay: float = setting(
        0.0, "decay of the weight average that is evaluated and exported; 0: none", ge=0, lt=1, example="0.9"
    )
    ema_every: int = setting(
        1,
        "optimizer steps between two updates of that average",
        ge=1,
        le=65536,
        only=("objective.ema_decay", ABOVE_ZERO),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse_args_of_own(self, "objective", "loss")
        return self
