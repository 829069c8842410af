"""The options of `python -m drift_pl.evaluate`."""

from drift_pl.config.early import Thing
from drift_pl.config.fields import Flag, NonNegative, setting
from drift_pl.config.options import Options, Weights, checkpoint_key, trust_key, weights_key
from drift_pl.config.schema import RewardConfig
from drift_pl.config.yaml_text import format_value
from drift_pl.core.errors import UserError, naming
from drift_pl.core.files import local_path
from drift_pl.core.prompt_files import DATASET, read_prompt_file

RUN_KEYS = (
    *("policy.pretrained", "sampler.eval_steps", "sampler.eval_guidance_scale", "trainer.precision"),
    *("evaluation.encoder", "evaluation.lpips", "evaluation.rewards", "evaluation.measures", "evaluation.extra"),
    *("evaluation.vendi_order", "evaluation.resolution", "evaluation.grid_prompts", "evaluation.grid_seeds"),
)


class EvaluateOptions(Options):
    """Measure a run's checkpoints and its base model on prompts and noise that training never saw.

    Writes the run's record, evaluation/test.json, and pictures of the same noise through all checkpoints. Points that
    the file already holds are not measured again; an interrupted evaluation is resumed.
    """

    program = "python -m drift_pl.evaluate"
    example = "ckpt_path=runs/shapes_div-d738dcc0-s0"
    run_keys = {
        "seeds_per_prompt": "evaluation.seeds_per_prompt",
        "max_prompts": "evaluation.max_prompts",
        "accelerator": "trainer.accelerator",
        "micro_batch": "sampler.micro_batch",
        "threads": "trainer.threads",
        **{key: key for key in RUN_KEYS},
    }

    ckpt_path: list[str] = checkpoint_key(
        "a run folder (all its checkpoints), a checkpoint, a glob, or a list of these"
    )
    prompts: str = setting("test", "test or tuning (the run's own), or a text file with one prompt per line")
    method: str | None = setting(None, "label in comparisons; null: the experiment's name", example="plain")
    out: str | None = setting(None, "file to write; null: the run's record", example="evaluation-tuning.json")
    weights: Weights = weights_key()
    trust: Flag = trust_key()
    lora_scale: list[NonNegative] = setting(
        [], "factors of the adapter's output, each a point per checkpoint; []: the run's own", example="[0.5, 1.0]"
    )
    importance_power: list[NonNegative | None] = setting(
        [], "powers of annealed importance guidance (null: none), likewise; []: the run's own", example="[0.5, 2.0]"
    )
    judges: list[RewardConfig] = setting([], "held-out rewards besides the config's: [{name: NAME, args: {...}}]")
    base: str | None = setting(
        None,
        "another evaluation file, or its run folder, with the base model's point",
        example="runs/other/evaluation.json",
    )
    fresh: Flag = setting(False, "measure everything again, and replace the file", example="true")

    def refuse_contradictions(self) -> None:
        """Checks the options against each other, and the files that they name, before anything is loaded.

        Raises:
            UserError: a file is missing, or values do not go together.
        """
        if self.out is not None and not self.out.endswith(".json"):
            raise UserError(f"out={self.out}: use e.g. out=evaluation-tuning.json, or leave it out")
        prompts = self.prompts
        if prompts not in ("test", "tuning"):
            if not prompts.startswith(("pkg:", DATASET)) and not local_path(prompts).is_file():
                use = "test, tuning, or a text file with one prompt per line"
                raise UserError(f"prompts={prompts}: no such file; use {use}")
            with naming("prompts"):
                read_prompt_file(prompts)
        if self.base is not None and not local_path(self.base).exists():
            raise UserError(f"base={self.base}: no such file; make it with python -m drift_pl.evaluate")
        if any("?" in str(judge.args.get("url")) for judge in self.judges):
            raise UserError(
                "judges: the record would keep what follows the question mark of a url; give the reward by "
                "evaluation.rewards, with url: '${oc.env:NAME}' and the whole url in that environment variable"
            )
        for key, values in (("lora_scale", self.lora_scale), ("importance_power", self.importance_power)):
            if len(set(values)) < len(values):
                raise UserError(f"{key}={format_value(values)} names a number twice: give each once")

    def needs(self) -> tuple[str, ...]:
        return (*super().needs(), "rewards", "evaluation", "prompts")

    def things(self) -> list[Thing]:
        return [Thing("reward", f"judges.{number}", each.name, each.args) for number, each in enumerate(self.judges)]
