"""The sections `evaluation` and `trainer`: measurements, hardware, checkpoints and logs."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from drift_pl.config.fields import Flag, neutral, setting
from drift_pl.config.schema_method import NamedConfig, RewardConfig, refuse_kind
from drift_pl.config.schema_model import WEIGHTS
from drift_pl.config.section import Section
from drift_pl.core.errors import UserError

PROGRESS = {"true": "auto", "yes": "auto", "on": "auto", "1": "auto"}
PROGRESS |= {"false": "none", "no": "none", "off": "none", "0": "none"}
"""What version 0.2 took for `trainer.progress`."""
Shown = Annotated[
    Literal["auto", "bar", "lines", "none"], BeforeValidator(lambda value: PROGRESS.get(str(value).lower(), value))
]


class EvaluationConfig(Section):
    every: int = neutral(
        0, "iterations between evaluations on the tuning prompts, beginning before training; 0: none", ge=0
    )
    seeds_per_prompt: int = setting(16, "images per prompt, before and after training", ge=2, le=4096)
    seeds_while_training: int = setting(16, "images per prompt in evaluations during training", ge=2, le=4096)
    max_prompts: int = setting(0, "number of prompts, from the start of a file; 0: all", ge=0)
    resolution: int | None = setting(
        None, "image height and width in evaluation; null: policy.resolution", ge=1, le=16384, example="512"
    )
    vendi_order: float = setting(1.0, "order q of the Vendi score", gt=0, le=100)
    extra: list[str] = setting([], "further measures", registry="measure", elsewhere=False, example="[rke]")
    grid_prompts: int = neutral(4, "prompts shown in image grids", ge=1)
    grid_seeds: int = neutral(8, "images per prompt in image grids", ge=1)
    encoder: NamedConfig = setting(
        NamedConfig(name="pooled", args={"pretrained": f"{WEIGHTS}/evaluation_encoder"}),
        "encoder of the diversity measures; not the one that shapes",
    )
    lpips: NamedConfig = setting(
        NamedConfig(name="lpips", args={"pretrained": f"{WEIGHTS}/lpips"}), "perceptual network of pairwise_lpips"
    )
    rewards: list[RewardConfig] = setting([], "held-out rewards: evaluated, never trained on")
    measures: list[NamedConfig] = setting([], "further measures of evaluation images")

    @model_validator(mode="after")
    def _check(self) -> Self:
        refuse_kind("evaluation.encoder", self.encoder, pairs=False)
        refuse_kind("evaluation.lpips", self.lpips, pairs=True)
        return self


class AlarmConfig(Section):
    threshold: float = neutral(
        0.5, "warn when the training groups' diversity falls below this share of the first's", ge=0
    )
    stop: Flag = neutral(False, "end the run there")


class LoggerConfig(NamedConfig):
    """A logger; its name alone stands for one without arguments."""

    name: str = neutral(..., "a registered name, or any Lightning logger, `package.module:Class`", registry="logger")
    args: dict[str, Any] = neutral({}, "keyword arguments of its constructor, e.g. {project: mine}")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class TrainerConfig(Section):
    iterations: int = neutral(200, "length of the run; may be raised later to extend it", ge=1)
    accelerator: Literal["auto", "cpu", "gpu", "cuda"] = neutral("auto", "Lightning accelerator; on a Mac auto is cpu")
    devices: int = neutral(1, "processes per node", ge=1, le=1024)
    num_nodes: int = neutral(1, "nodes", ge=1, le=65536)
    strategy: Literal["auto", "ddp", "fsdp"] = neutral(
        "auto", "auto (one process, or DDP on several), ddp, fsdp (the network is sharded over the processes)"
    )
    timeout_s: float = neutral(
        600.0,
        "seconds after which processes give up waiting for one that hangs, cannot be reached or is slow to start",
        ge=1,
        le=1e6,
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "16-true"] = setting(
        "32-true",
        "32-true (float32), bf16-mixed (autocast), 16-mixed (autocast to float16, with a scaled loss), 16-true "
        "(float16 with a scaled loss and no autocast: needs policy.dtype=float16)",
    )
    tf32: Flag | None = setting(
        None,
        "float32 in TF32 on CUDA devices: true: products and convolutions; false: neither; null: as torch has it "
        "(convolutions)",
        example="true",
    )
    threads: int = neutral(0, "CPU threads per process; 0: as torch chooses", ge=0, le=4096)
    judge_groups: int = neutral(0, "groups per call of a reward; 0: all of an iteration", ge=0)
    judge_thread: Flag | None = neutral(
        None,
        "compute rewards of finished groups in a thread while the next are sampled (needs judge_groups); null: if all "
        "rewards are asked over HTTP",
        example="false",
    )
    save_every: int = neutral(10, "iterations between checkpoints (the length of a Lightning epoch)", ge=1, le=10**9)
    keep_checkpoints: int = neutral(2, "numbered checkpoints kept beside last.ckpt; -1: all", ge=-1)
    keep_boundary: Flag = neutral(
        True, "copy the trained state to main memory before each iteration, to be saved if the run breaks"
    )
    logger: list[LoggerConfig] = neutral(
        [LoggerConfig(name="tensorboard")],
        "where metrics go, names or {name, args}; []: nowhere",
        example="[tensorboard]",
    )
    progress: Shown = neutral("auto", "what is shown while it runs; auto: a bar on a terminal, else a line per minute")
    monitor_lpips: Flag = neutral(
        True, "also measure pairwise LPIPS of the training groups, the slowest of the measures"
    )
    alarm: AlarmConfig = setting(AlarmConfig(), "warning when training loses diversity")
    callbacks: list[NamedConfig] = setting([], "further Lightning callbacks")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.judge_thread and not self.judge_groups:
            raise UserError("trainer.judge_thread=true needs groups in separate calls: set e.g. trainer.judge_groups=1")
        return self
