"""The plan of a run: one model per section, each field with all that is known of it (see `fields.setting`). No torch.

An experiment file is a small difference to these defaults. `loading` reads files and overrides into a `Config`, which
refuses what cannot be run; only `builders` turns a `Config` into objects.
"""

from typing import Any, Self

from pydantic import model_validator

from drift_pl.config.batches import derive_batches
from drift_pl.config.fields import Section, about_of, find_key, is_own_name, setting
from drift_pl.config.schema_method import EncoderConfig, IncentiveConfig, NamedConfig, ObjectiveConfig, RewardConfig
from drift_pl.config.schema_model import LoraConfig, PolicyConfig, PromptsConfig, SamplerConfig
from drift_pl.config.schema_run import EvaluationConfig, TrainerConfig
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
]

RENAMED: dict[str, str] = {}
"""Old key -> new key: files and checkpoints of earlier versions are read through it."""


class Config(Section):
    experiment: str = setting(
        "shapes_div", "name of a file in experiments/, or the path of a .yaml file", shapes_results=False
    )
    seed: int = setting(0, "seed of everything that training draws", shapes_results=False)
    run_dir: str | None = setting(None, "folder of the run; null: runs/EXPERIMENT-HASH-sSEED", shapes_results=False)
    ckpt_path: str | None = setting(
        None,
        "resume a run: its folder, a checkpoint, or beside run_dir last or auto (resume or start)",
        shapes_results=False,
    )
    policy: PolicyConfig = setting(PolicyConfig(), "the model that is fine-tuned")
    sampler: SamplerConfig = setting(SamplerConfig(), "how rollouts and evaluation sample")
    prompts: PromptsConfig = setting(PromptsConfig(), "prompts, and how many images of each")
    rewards: list[RewardConfig] = setting([], "the judges that are trained on")
    incentive: IncentiveConfig = setting(IncentiveConfig(), "DRIFT's three levers")
    objective: ObjectiveConfig = setting(ObjectiveConfig(), "the base algorithm's loss and optimiser")
    evaluation: EvaluationConfig = setting(EvaluationConfig(), "held-out evaluation")
    trainer: TrainerConfig = setting(TrainerConfig(), "length, hardware, logging")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.rewards and "rewards" in self.model_fields_set:
            raise UserError("rewards is empty: name at least one judge, e.g. rewards=[{name: jpeg_compressibility}]")
        _refuse_mixed_processes(self.policy.family, self.sampler.kind)
        _refuse_nft(self)
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
    """Value of a dotted key, e.g. `get_value(config, "prompts.group_size")`."""
    value: Any = section
    for part in key.split("."):
        value = getattr(value, part)
    return value


def has_effect(config: Config, key: str) -> bool:
    """Whether a setting counts beside the others; what a thing from elsewhere takes is not known here: True."""
    entry = find_key(Config, key)
    only = about_of(entry.field).only if entry else ()
    chooser = find_key(Config, only[0]) if only else None
    if chooser is None:
        return True
    chosen = get_value(config, only[0])
    return chosen in only[1:] or (bool(about_of(chooser.field).registry) and not is_own_name(chooser.field, chosen))


def _process_of(kind: str, name: str) -> str:
    """`flow` or `ddpm`; empty for what is not this package's: it is known when the thing is built."""
    entry = TABLES[kind].entries.get(name)
    return entry.process if entry else ""


def _of_process(kind: str, process: str) -> str:
    return " or ".join(name for name in names(kind) if _process_of(kind, name) == process)


def _refuse_mixed_processes(family: str, sampler: str) -> None:
    """A family is a flow or a DDPM, and each has its own stochastic steps."""
    ours, theirs = _process_of("family", family), _process_of("sampler", sampler)
    if (ours, theirs) == ("ddpm", "flow"):
        use = _of_process("sampler", "ddpm")
        raise UserError(f"sampler.kind={sampler} is for flow models, and policy.family={family} is none: use {use}")
    if (ours, theirs) == ("flow", "ddpm"):
        raise UserError(
            f"sampler.kind={sampler} is for policy.family={_of_process('family', 'ddpm')}, and {family} is a flow "
            "model: use e.g. flow_sde"
        )


def _refuse_nft(config: Config) -> None:
    """nft knows a flow's images, and no steps."""
    if config.objective.loss != "nft":
        return
    family, guidance, incentive = config.policy.family, config.policy.guidance_scale, config.incentive
    if _process_of("family", family) == "ddpm":
        raise UserError(f"objective.loss=nft is for flow models, and policy.family={family} is none: use surrogate")
    if guidance != 1 and family != "flux":  # flux is told a number instead: its velocity is the network's own
        raise UserError(
            f"objective.loss=nft trains the model's own velocity, and policy.guidance_scale={guidance} mixes two: set "
            f"policy.guidance_scale=1 (and sampler.eval_guidance_scale={guidance} to evaluate with it)"
        )
    if incentive.shaping.form == "per_step" and incentive.shaping.weight > 0:
        raise UserError(
            "incentive.shaping.form=per_step needs sampled steps, and objective.loss=nft has none: use terminal"
        )
    if incentive.method == "diverse_grpo":
        raise UserError(
            "incentive.method=diverse_grpo diverges in early steps only, and objective.loss=nft has no steps: use "
            "objective.loss=surrogate"
        )
