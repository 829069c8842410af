"""The sections `policy`, `sampler` and `prompts`: what is fine-tuned, how it is sampled, and for which prompts."""

from typing import Any, Literal, Self

from pydantic import model_validator

from drift_pl.config.batches import noisy_steps, stochastic_steps, window_bounds
from drift_pl.config.fields import Flag, about_of, neutral, setting
from drift_pl.config.section import Section
from drift_pl.core.errors import UserError

WEIGHTS = "pkg:drift_pl.builtin/weights"
PROMPTS = "pkg:drift_pl.builtin/prompts"
LORA, FULL = ("policy.tuning", "lora"), ("policy.tuning", "full")
VIDEOS = ("policy.family", "wan")
SCHEDULE = "sampler.window_schedule"
MOVING = (SCHEDULE, "sliding", "linear_decay", "exp_decay")


def refuse_args_of_own(section: Section, prefix: str, name: str) -> None:
    """Refuses `args` beside one of this package's names, which take the keys of their section."""
    value = getattr(section, name)
    if section.args and about_of(type(section).model_fields[name]).is_own(value):  # type: ignore[attr-defined]
        raise UserError(
            f"{prefix}.args is for {prefix}.{name}=their_package.module:Thing, and {value} takes the keys of {prefix}: "
            f"use {prefix}.args={{}}"
        )


class LoraConfig(Section):
    rank: int = setting(32, "rank of the low-rank update", ge=1, le=4096, only=LORA)
    alpha: int = setting(64, "its scale: the update is multiplied by alpha / rank", ge=1, le=65536, only=LORA)
    pretrained: str | None = setting(
        None, "warm start: a LoRA of diffusers, a .safetensors file or a folder", only=LORA
    )
    targets: list[str] = setting(
        ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"],
        "names of the adapted linear layers",
        only=LORA,
        min_length=1,
    )


class PolicyConfig(Section):
    pretrained: str = setting(
        f"{WEIGHTS}/pipeline", "hub id (org/model, or org/model@REVISION), local folder, or pkg:PACKAGE/FOLDER"
    )
    tuning: Literal["lora", "full"] = setting("lora", "what trains: lora (an adapter), full (all weights)")
    reference_device: Literal["device", "cpu"] = neutral(
        "device", "memory of the frozen reference: device (the accelerator) or cpu", only=FULL
    )
    family: str = setting("sd3", "pipeline family of `pretrained`", registry="family")
    args: dict[str, Any] = setting({}, "keyword arguments of a family from elsewhere")
    lora: LoraConfig = setting(LoraConfig(), "the trained adapter")
    guidance_scale: float = setting(
        4.5, "guidance in rollouts and training; 1 switches it off (flux: the guidance input of the network)", ge=1
    )
    negative_prompt: str = setting("", "prompt of the unconditional branch (flux has none)")
    resolution: int | None = setting(
        None, "image height and width in pixels; null: the model's own", ge=1, le=16384, example="512"
    )
    frames: int = setting(
        1, "frames of a video (wan: 1 more than a multiple of 4, e.g. 33)", ge=1, le=4096, only=VIDEOS
    )
    reward_frames: Literal["mean", "first", "random"] = setting(
        "mean",
        "rewards of a video: their mean over all frames, of the first, or of one drawn for each video (in evaluation "
        "the mean)",
        only=VIDEOS,
    )
    max_sequence_length: int = setting(
        256, "text tokens per prompt (sd3, flux: T5's); 0 leaves T5's out in sd3", ge=0, le=8192
    )
    compile: Flag = neutral(False, "torch.compile the transformer's blocks (pays off in long runs on an accelerator)")
    gradient_checkpointing: Flag = neutral(False, "recompute activations in the backward pass to save memory")
    text_encoder_device: str | None = neutral(
        None, "where text encoders run: null (with the model), or cpu, which saves their memory; embeddings are cached"
    )
    offload: Flag = neutral(
        False,
        "keep text encoders, autoencoder, rewards and encoders in main memory while another phase runs (accelerators)",
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = setting(
        None, "dtype of the frozen weights; null: as stored (the autoencoder is float32 in any case)"
    )
    quantisation: Literal["bitsandbytes_4bit", "bitsandbytes_8bit"] | None = setting(
        None, "of the denoiser's frozen weights; null: not quantised"
    )
    storage: Literal["fp8"] | None = setting(
        None, "fp8: a byte per weight of the denoiser's frozen blocks, which compute in their dtype; null: as loaded"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse_args_of_own(self, "policy", "family")
        if self.tuning == "full" and self.lora.pretrained is not None:
            raise UserError(
                f"policy.lora.pretrained={self.lora.pretrained} starts an adapter, and policy.tuning=full trains "
                "none: use policy.tuning=lora, or policy.lora.pretrained=null"
            )
        if self.storage is not None and self.tuning == "full":
            raise UserError(
                f"policy.storage={self.storage} is for frozen weights, and policy.tuning=full trains them all: use "
                "policy.storage=null"
            )
        if self.storage is not None and self.quantisation is not None:
            raise UserError(
                f"policy.storage={self.storage}: policy.quantisation={self.quantisation} stores the same weights: use "
                "one of the two, e.g. policy.quantisation=null"
            )
        if self.family == "flux" and self.negative_prompt:
            raise UserError(
                f"policy.negative_prompt={self.negative_prompt!r}: policy.family=flux has no branch for it; leave it "
                "empty, policy.negative_prompt="
            )
        return self


class SamplerConfig(Section):
    kind: str = setting("flow_sde", "stochastic steps; the families sd15 and sdxl take ddim", registry="sampler")
    args: dict[str, Any] = setting({}, "keyword arguments of a sampler from elsewhere")
    steps: int = setting(10, "denoising steps of a rollout", ge=2, le=1000)
    micro_batch: int | None = neutral(
        None, "images per forward pass in rollouts and evaluation; null: as in training", ge=1, example="16"
    )
    noise_level: float = setting(0.7, "a: scale of a stochastic step's noise (ddim: eta)", gt=0)
    window_size: int | None = setting(
        None, "SDE steps: with noise, and trained; null: all but the last; 0: none (an update without steps, e.g. nft)"
    )
    window_range: list[int] = setting(
        [], "[first, end) of the window's range; []: all steps with noise", example="[0, 8]"
    )
    window_schedule: Literal["random", "subset", "sliding", "linear_decay", "exp_decay"] = setting(
        "random",
        "random: a window drawn in each iteration; subset: steps drawn one by one; sliding, and with stays that become "
        "shorter, linear_decay, exp_decay: MixGRPO's",
    )
    window_stride: int = setting(1, "steps by which the window moves", ge=1, only=MOVING)
    window_every: int = setting(25, "iterations between two moves", ge=1, only=MOVING)
    window_every_last: int | None = setting(
        None,
        "the same at the end of the range; null: a quarter of window_every",
        ge=1,
        only=(SCHEDULE, "linear_decay"),
        example="5",
    )
    window_decay: float = setting(
        0.1, "rate at which stays become shorter, per step", gt=0, only=(SCHEDULE, "exp_decay")
    )
    window_decay_from: int = setting(13, "the step from which on they do", ge=0, only=(SCHEDULE, "exp_decay"))
    noisy_steps: Literal["trained", "all"] = setting(
        "trained", "steps with noise: the trained ones, or all but the last (see noisy_last_step)"
    )
    solver: Literal["euler", "dpm2"] = setting(
        "euler", "steps without noise of a rollout: euler, dpm2 (second-order DPM-Solver++; flows)"
    )
    shared_prefix: Flag = setting(False, "one ODE prefix per group up to the window, then a branch per image")
    noisy_last_step: Flag = setting(False, "also put noise into the last step (its noise goes straight into the image)")
    train_last_step: Flag = setting(
        True,
        "train the last step as well; false: noise that is not trained",
        only=("sampler.noisy_last_step", "true"),
    )
    eval_steps: int = setting(40, "ODE steps in evaluation", ge=1, le=1000)
    eval_guidance_scale: float | None = setting(None, "guidance in evaluation; null: policy.guidance_scale")
    eval_importance_power: float | None = setting(
        None,
        "power of annealed importance guidance in evaluation, from 0 (the tuned model) towards the base; null: off",
        ge=0,
        example="1.5",
    )
    eval_lora_scale: float = setting(
        1.0, "factor of the adapter's output (tuning=full: of the weights' change) in evaluation", ge=0
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse_args_of_own(self, "sampler", "kind")
        if self.kind in ("flow_cps", "ddim") and self.noise_level > 1:
            takes = "an angle in (0, 1], e.g. 0.8" if self.kind == "flow_cps" else "an eta in (0, 1], e.g. 1"
            raise UserError(f"sampler.noise_level={self.noise_level}: {self.kind} takes {takes}")
        if self.kind == "flow_cps" and self.noisy_last_step:
            raise UserError("sampler.noisy_last_step=true: flow_cps has no noise in its last step; use false")
        limit = stochastic_steps(self)
        if self.window_range and len(self.window_range) != 2:
            raise UserError(f"sampler.window_range={self.window_range} needs two numbers, e.g. [0,{limit}]")
        first, end = window_bounds(self)
        if not 0 <= first < end <= limit:
            raise UserError(
                f"sampler.window_range=[{first},{end}] does not lie in [0,{limit}]: with sampler.steps={self.steps} "
                f"use e.g. [0,{limit}]"
            )
        if self.window_size is not None and not 0 <= self.window_size <= end - first:
            raise UserError(
                f"sampler.window_size={self.window_size} does not fit into [{first},{end}): use 1 to {end - first}"
            )
        if self.window_schedule == "linear_decay" and (self.window_every_last or 1) > self.window_every:
            raise UserError(
                f"sampler.window_every_last={self.window_every_last} is more than window_every={self.window_every}, "
                f"and stays become shorter: use e.g. {max(1, self.window_every // 4)}"
            )
        self._check_noise()
        return self

    def _check_noise(self) -> None:
        if self.window_size == 0 and self.shared_prefix:
            raise UserError("sampler.window_size=0 leaves nothing to branch into: use sampler.shared_prefix=false")
        if self.window_size == 0 and noisy_steps(self):
            raise UserError(
                "sampler.window_size=0 is a rollout without noise: use sampler.noisy_steps=trained and "
                "sampler.noisy_last_step=false"
            )
        if self.shared_prefix and self.noisy_steps == "all":
            raise UserError(
                "sampler.shared_prefix=true samples the steps before the window without noise, and "
                "sampler.noisy_steps=all has noise in them: use sampler.noisy_steps=trained"
            )


class PromptsConfig(Section):
    train: str = setting(
        f"{PROMPTS}/train.txt",
        "training prompts: a text file with one per line, JSON lines (.jsonl), or hf:OWNER/NAME[/CONFIG]:SPLIT:COLUMN",
    )
    tuning: str = setting(f"{PROMPTS}/tuning.txt", "prompts for evaluations during training")
    test: str = setting(f"{PROMPTS}/test.txt", "held-out prompts for summary.json")
    per_iteration: int = setting(8, "prompts (groups) per iteration, over all processes", ge=1, le=65536)
    group_size: int = setting(16, "images per prompt and iteration", ge=2, le=4096)
    cache_gb: float = neutral(4.0, "most gigabytes of encoded prompts in main memory, per process", ge=0)
    cache_dir: str | None = neutral(
        None, "folder that keeps encoded prompts on disk, for all runs; null: none", example="cache"
    )
