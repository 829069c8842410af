"""The keys of `python -m drift_pl.evaluate`. No torch, so that `--help` is quick."""

from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from drift_pl.config.fields import Flag, setting
from drift_pl.config.options import Options, Weights, trust_key, weights_key
from drift_pl.config.schema import Config, RewardConfig
from drift_pl.config.yaml_text import format_value
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path

OWN_PROMPTS = ("test", "tuning")


class EvaluateOptions(Options):
    """What a command line asks for; None and empty lists leave it to the run's own config."""

    program = "python -m drift_pl.evaluate"
    purpose = (
        "Measure a run's checkpoints and its base model on prompts and noise that training never saw. Writes "
        "evaluation.json and pictures of the same noise through all of them. Points that the file holds already are "
        "not measured again; an evaluation that was interrupted is resumed."
    )
    example = "ckpt_path=runs/shapes_div-d738dcc0-s0"
    passed_on = (
        *("policy.pretrained", "sampler.eval_steps", "sampler.eval_guidance_scale", "trainer.precision"),
        *("evaluation.encoder", "evaluation.lpips", "evaluation.rewards", "evaluation.measures", "evaluation.extra"),
        *("evaluation.vendi_order", "evaluation.resolution", "evaluation.grid_prompts", "evaluation.grid_seeds"),
    )

    ckpt_path: list[str] = setting(
        ...,
        "a run folder (all its checkpoints), a checkpoint, a glob, or a list of these",
        example="runs/shapes_div-d738dcc0-s0",
    )
    prompts: str = setting(
        "test", "test or tuning (the run's own), or a text file with one prompt per line", example="tuning"
    )
    seeds_per_prompt: Any = setting(
        None, "images per prompt; null: the run's evaluation.seeds_per_prompt", sets="evaluation.seeds_per_prompt"
    )
    max_prompts: Any = setting(
        None, "the first so many prompts; 0: all; null: the run's evaluation.max_prompts", sets="evaluation.max_prompts"
    )
    method: str | None = setting(
        None, "label that comparisons group runs by; null: the experiment's name", example="plain"
    )
    out: str | None = setting(
        None, "file to write; null: evaluation.json in the run folder", example="evaluation-tuning.json"
    )
    weights: Weights = weights_key()
    lora_scale: list[float] = setting(
        [],
        "a point per checkpoint and factor of the adapter's output; []: the run's own",
        reads="sampler.eval_lora_scale",
        example="[0.5, 1.0]",
    )
    importance_power: list[float | None] = setting(
        [],
        "a point per checkpoint and power of annealed importance guidance, null for none; []: the run's own",
        reads="sampler.eval_importance_power",
        example="[0.5, 2.0]",
    )
    judges: list[RewardConfig] = setting(
        [],
        "held-out judges besides the config's: [{name: NAME, args: {...}}]",
        reads="evaluation.rewards",
        example="[{name: jpeg_compressibility}]",
    )
    base: str | None = setting(
        None,
        "another evaluation file (or its run folder) to take the base model's point from",
        example="runs/other/evaluation.json",
    )
    fresh: Flag = setting(False, "measure everything again, and replace the file", example="true")
    accelerator: Any = setting(
        None, "Lightning accelerator; null: the run's trainer.accelerator", sets="trainer.accelerator"
    )
    micro_batch: Any = setting(
        None, "images per forward pass; null: the run's objective.micro_batch", sets="objective.micro_batch"
    )
    threads: Any = setting(None, "CPU threads; null: the run's trainer.threads", sets="trainer.threads")
    trust: Flag = trust_key()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.out is not None and not self.out.endswith(".json"):
            raise UserError(f"out={self.out}: use e.g. out=evaluation-tuning.json, or leave it out")
        own = self.prompts in OWN_PROMPTS or self.prompts.startswith("pkg:")
        if not own and not local_path(self.prompts).is_file():
            raise UserError(
                f"prompts={self.prompts}: no such file; use test, tuning, or a text file with one prompt per line"
            )
        if any("?" in str(judge.args.get("url")) for judge in self.judges):
            raise UserError(
                "judges: the record would keep what follows the question mark of a url; give the judge by "
                "evaluation.rewards, with url: '${oc.env:NAME}' and the whole url in that environment variable"
            )
        for key, values in (("lora_scale", self.lora_scale), ("importance_power", self.importance_power)):
            if len(set(values)) < len(values):
                raise UserError(f"{key}={format_value(values)} names a number twice: give each once")
        return self

    def config(self, file: Path) -> Config:
        """See `Options.config`; a file of prompts stands in for the run's test prompts."""
        if self.prompts not in OWN_PROMPTS:
            self._overrides.insert(0, ("prompts.test", self.prompts, "prompts"))
        return super().config(file)
