"""The settings of a run: one model per section, whose fields say all about themselves (`fields.setting`). No torch.

An experiment file is a small difference from these defaults. `loading` reads files and overrides into a `Config`, which
refuses what cannot be run; only `builders` turns a `Config` into objects.
"""

import functools
import re
from typing import Any, Self

from pydantic import PrivateAttr, model_validator

from drift_pl.config.batches import derive_batches
from drift_pl.config.fields import ABOVE_ZERO, GIVEN, Flag, neutral, setting
from drift_pl.config.methods import refuse_idle_arguments
from drift_pl.config.schema_levers import IncentiveConfig
from drift_pl.config.schema_method import EncoderConfig, NamedConfig, ObjectiveConfig, RewardConfig
from drift_pl.config.schema_model import LoraConfig, PolicyConfig, PromptsConfig, SamplerConfig
from drift_pl.config.schema_run import EvaluationConfig, TrainerConfig
from drift_pl.config.section import Section
from drift_pl.config.signal import refuse_no_signal
from drift_pl.config.updates import refuse_unfit_update
from drift_pl.core.errors import UserError
from drift_pl.core.registry import TABLES, names

__all__ = [
    "RENAMED",
    "Config",
    "EncoderConfig",
    "LoraConfig",
    "NamedConfig",
    "PolicyConfig",
    "RewardConfig",
    "SamplerConfig",
    "get_value",
    "has_effect",
    "unmet",
]

RENAMED: dict[str, str] = {}
"""Old key -> new key: files and checkpoints of earlier versions are read through it."""
AUTOCAST = {"bf16-mixed": "bfloat16", "16-mixed": "float16"}
"""Settings of `trainer.precision` that cast, and to what."""
NO_FLOAT16 = ("sana",)
"""Families that 16-mixed makes NaN: float16 rounds what Sana's linear attention adds to a divisor (1e-15) to 0."""
READERS = ("drift_pl.builtin.reader:", "drift_pl.builtin.emoji.reader:")
"""Modules that tell what an image of a built-in world shows."""


class Config(Section):
    """Fine-tune a text-to-image model on a reward and keep its diversity.

    experiment= is read first, then the other arguments from left to right. Lists count from 0: rewards.0.weight=2.
    trust=true takes code that an experiment file from elsewhere names (docs/sharing.md).
    ckpt_path=RUN_FOLDER resumes a run with its own config; ckpt_path=auto, beside the arguments of a run, resumes or
    starts it.
    """

    experiment: str = neutral("shapes_div", "name of a file in experiments/, or the path of a .yaml file")
    seed: int = neutral(0, "seed of everything that training draws", ge=-(2**63), le=2**63 - 1)
    run_dir: str | None = neutral(None, "folder of the run; null: runs/EXPERIMENT[-RUN_NAME]-HASH-sSEED")
    run_name: str | None = neutral(None, "a name of your own within the folder's name", example="short-kl")
    tags: list[str] = neutral([], "words by which `drift-pl runs` shows and selects runs", example="[paper, kl]")
    dry_run: Flag = neutral(False, "one tiny iteration of everything, to see that it works; its folder ends in -dry")
    ckpt_path: str | None = neutral(
        None,
        "resume a run: its folder or one of its checkpoints; last, auto (resume or start): in the run's own folder",
    )
    policy: PolicyConfig = setting(PolicyConfig(), "the model that is fine-tuned")
    sampler: SamplerConfig = setting(SamplerConfig(), "how rollouts and evaluation sample")
    prompts: PromptsConfig = setting(PromptsConfig(), "prompts, and how many images of each")
    rewards: list[RewardConfig] = setting([], "the rewards that are trained on")
    incentive: IncentiveConfig = setting(IncentiveConfig(), "DRIFT's three levers")
    objective: ObjectiveConfig = setting(ObjectiveConfig(), "the base algorithm's loss and optimizer")
    evaluation: EvaluationConfig = setting(EvaluationConfig(), "held-out evaluation")
    trainer: TrainerConfig = setting(TrainerConfig(), "length, hardware, logging")

    _published: "Config | None" = PrivateAttr(None)

    @property
    def published(self) -> "Config":
        """The same as it may be written down: without what stands in environment variables, see `publishing`."""
        return self._published or self

    def publish_as(self, published: "Config") -> None:
        self._published = None if published is self else published

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.run_name is not None and not re.fullmatch(r"[\w.+-]{1,64}", self.run_name):
            raise UserError(
                f"run_name={self.run_name} is not a part of a folder's name: use up to 64 letters, digits, dots, "
                "underscores and dashes, e.g. run_name=short-kl"
            )
        if not self.rewards and "rewards" in self.model_fields_set:
            raise UserError("rewards is empty: name at least one, e.g. rewards=[{name: jpeg_compressibility}]")
        if self.policy.offload and self.trainer.judge_thread:
            raise UserError(
                "policy.offload=true moves rewards away while images are sampled, when trainer.judge_thread=true calls "
                "them: use trainer.judge_thread=false"
            )
        _refuse_mixed_processes(self.policy.family, self.sampler)
        _refuse_frames(self)
        _refuse_float16(self)
        refuse_unfit_update(self)
        refuse_idle_arguments(self)
        refuse_no_signal(self)
        _refuse_trained_readers(self)
        keep, size = self.incentive.selection.keep, self.prompts.group_size
        if keep and not 2 <= keep <= size:
            raise UserError(
                f"incentive.selection.keep={keep} does not lie in [2, prompts.group_size={size}]: use e.g. {size}"
            )
        if self.incentive.method != "drift" and self.objective.reward_normalisation != "sum":
            raise UserError(
                f"incentive.method={self.incentive.method} works on the sum of rewards: set "
                "objective.reward_normalisation=sum"
            )
        derive_batches(self)
        return self


def get_value(section: Section, key: str) -> Any:
    """Value of a dotted key, e.g. `get_value(config, "prompts.group_size")` or `"rewards.0.args.url"`."""
    return functools.reduce(_part, key.split("."), section)


def _part(node: Any, word: str) -> Any:
    if isinstance(node, list):
        return node[int(word)]
    return node[word] if isinstance(node, dict) else getattr(node, word)


def has_effect(config: Config, key: str) -> bool:
    """Whether a setting counts beside the others; always for things from elsewhere, whose arguments are not known."""
    return not unmet(config, key)


def unmet(config: Config, key: str) -> str:
    """The first condition that keeps a setting from counting, such as `objective.loss=nft`; empty if it counts.

    What it waits for may wait for something else: the gate's quantile for the gate, and that for the bonus.
    """
    found = Config.find_key(key)
    if found is None or not found.about.only:
        return ""
    chooser, *values = found.about.only
    chosen, about = get_value(config, chooser), Config.require_key(chooser).about
    if values[0] in (ABOVE_ZERO, GIVEN):
        met = bool(chosen)  # no such number may be negative
    else:
        met = (str(chosen).lower() if isinstance(chosen, bool) else chosen) in values
    elsewhere = bool(about.registry and not about.is_own(chosen))
    return unmet(config, chooser) if met or elsewhere else found.about.condition


def _process_of(kind: str, name: str) -> str:
    """`flow` or `ddpm`; empty for things from elsewhere, whose process is known when they are built."""
    entry = TABLES[kind].get(name)
    return entry.process if entry else ""


def _of_process(kind: str, process: str) -> str:
    return " or ".join(name for name in names(kind) if _process_of(kind, name) == process)


def _refuse_mixed_processes(family: str, section: SamplerConfig) -> None:
    """A family is a flow or a DDPM, and each has its own stochastic steps."""
    sampler = section.kind
    ours, theirs = _process_of("family", family), _process_of("sampler", sampler)
    if ours == "ddpm" and section.solver != "euler":
        raise UserError(
            f"sampler.solver={section.solver} is for flow models, and policy.family={family} is not one: use euler"
        )
    if (ours, theirs) == ("ddpm", "flow"):
        use = _of_process("sampler", "ddpm")
        raise UserError(f"sampler.kind={sampler} is for flow models, and policy.family={family} is not one: use {use}")
    if (ours, theirs) == ("flow", "ddpm"):
        raise UserError(
            f"sampler.kind={sampler} is for policy.family={_of_process('family', 'ddpm')}, and {family} is a flow "
            "model: use e.g. flow_sde"
        )


def _refuse_frames(config: Config) -> None:
    """A family of this package that makes images makes no videos."""
    entry, frames = TABLES["family"].get(config.policy.family), config.policy.frames
    if entry and not entry.frames and frames > 1:
        videos = [name for name, each in TABLES["family"].items() if each.frames]
        raise UserError(
            f"policy.frames={frames}: policy.family={config.policy.family} makes images; use policy.frames=1, or "
            f"policy.family={', '.join(videos)}"
        )


def _refuse_float16(config: Config) -> None:
    """What float16 does not go with."""
    precision, policy = config.trainer.precision, config.policy
    if precision == "16-true" and policy.tuning == "full":
        raise UserError(
            "trainer.precision=16-true computes in the dtype of frozen weights, and policy.tuning=full has none: use "
            "trainer.precision=16-mixed"
        )
    if precision == "16-true" and policy.dtype != "float16":
        raise UserError(
            f"trainer.precision=16-true computes in the dtype of the frozen weights, and policy.dtype="
            f"{policy.dtype or 'null'}: set policy.dtype=float16, or use trainer.precision=16-mixed"
        )
    if precision == "16-mixed" and policy.family in NO_FLOAT16:
        raise UserError(
            f"trainer.precision=16-mixed makes images of policy.family={policy.family} NaN: its attention divides by "
            "sums that float16 rounds to 0; use trainer.precision=bf16-mixed"
        )
    autocast = AUTOCAST.get(precision)
    if autocast and policy.dtype in ("float16", "bfloat16") and policy.dtype != autocast:
        raise UserError(
            f"policy.dtype={policy.dtype} under trainer.precision={precision} mixes two half precisions: use "
            f"policy.dtype={autocast}, or trainer.precision={'16' if policy.dtype == 'float16' else 'bf16'}-mixed"
        )
    if precision.startswith("16-") and config.trainer.strategy == "fsdp":
        raise UserError(
            f"trainer.precision={precision} scales the loss, and a process of trainer.strategy=fsdp sees the overflows "
            "of its own rows only: use trainer.precision=bf16-mixed, or trainer.strategy=ddp"
        )


def _refuse_trained_readers(config: Config) -> None:
    """What measures a run must not be what it is trained on: a built-in world's reader, or any measure of this run."""
    measured = {measure.name for measure in config.evaluation.measures}
    for number, reward in enumerate(config.rewards):
        if reward.name in measured or reward.name.startswith(READERS):
            raise UserError(
                f"rewards.{number}.name={reward.name} measures what training does, and cannot be trained on: leave it "
                "in evaluation.measures, and use e.g. rewards=[{name: jpeg_compressibility}]"
            )
