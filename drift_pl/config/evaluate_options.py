"""The command line of `python -m drift_pl.evaluate`: its own keys, and those of the run's config that it passes on.

Nothing is parsed here that a `Config` can parse: where a key here means what a key there means, it is read as that one,
with its type and its bounds, and messages speak of the key that was given. No torch, so that `--help` is quick.
"""

import difflib
import shutil
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from drift_pl.config.arguments import build_config
from drift_pl.config.keys import all_keys, format_value, resolve_type, type_name
from drift_pl.config.literals import coerce, load_yaml, parse_override
from drift_pl.config.schema import Config, RewardConfig, option
from drift_pl.core.errors import UserError

PROGRAM = "python -m drift_pl.evaluate"
EXAMPLE = f"{PROGRAM} ckpt_path=runs/shapes_div-bf23135e-s0"
FLAGS = {"-h, --help": "show this text", "--debug": "show the traceback of an error"}

SHORT = {
    "seeds_per_prompt": "evaluation.seeds_per_prompt",
    "max_prompts": "evaluation.max_prompts",
    "accelerator": "trainer.accelerator",
    "micro_batch": "objective.micro_batch",
    "threads": "trainer.threads",
}
"""Short names of keys of the run's config."""

PASSED_ON = (
    *("policy.pretrained", "sampler.eval_steps", "sampler.eval_guidance_scale", "trainer.precision"),
    *("evaluation.encoder", "evaluation.lpips", "evaluation.rewards", "evaluation.measures", "evaluation.extra"),
    *("evaluation.vendi_order", "evaluation.resolution", "evaluation.grid_prompts", "evaluation.grid_seeds"),
)
"""Keys of the run's config that may be given another value, below them included; they are part of the protocol."""

NULLS = ("null", "none", "~")

READ_AS = {
    **SHORT,
    "lora_scale": "sampler.eval_lora_scale",
    "importance_power": "sampler.eval_importance_power",
    "judges": "evaluation.rewards",
    "fresh": "trainer.progress",
}
"""The key of a `Config` that has the same type (lists of numbers: their entries)."""


@dataclass
class EvaluateOptions:
    """What a command line asks for; None and empty lists leave it to the run's own config."""

    ckpt_path: list[str] = option([], "a run folder (all its checkpoints), a checkpoint, a glob, or a list of these")
    prompts: str = option("test", "test or tuning (the run's own), or a text file with one prompt per line")
    seeds_per_prompt: int | None = option(None, "images per prompt; null: the run's evaluation.seeds_per_prompt")
    max_prompts: int | None = option(None, "the first so many prompts; 0: all; null: the run's evaluation.max_prompts")
    method: str | None = option(None, "label that comparisons group runs by; null: the experiment's name")
    out: str | None = option(None, "file to write; null: evaluation.json in the run folder")
    weights: str = option("average", "average (the EMA, in runs that have one) or live")
    lora_scale: list[float] = option([], "a point per checkpoint and factor of the adapter's output; []: the run's own")
    importance_power: list[float | None] = option(
        [], "a point per checkpoint and power of annealed importance guidance, null for none; []: the run's own"
    )
    judges: list[RewardConfig] = option([], "held-out judges besides the config's: [{name: NAME, args: {...}}]")
    base: str | None = option(None, "another evaluation file (or its run folder) to take the base model's point from")
    fresh: bool = option(False, "measure everything again, and replace the file")
    accelerator: str | None = option(None, "auto, cpu, gpu; null: the run's trainer.accelerator")
    micro_batch: int | None = option(None, "images per forward pass; null: the run's objective.micro_batch")
    threads: int | None = option(None, "CPU threads; null: the run's trainer.threads")
    overrides: list[tuple[str, str]] = field(default_factory=list)

    def config(self, file: Path) -> Config:
        """The run's config with what was asked for put in.

        Raises:
            UserError: the file cannot be read, or a value is none that the config takes.
        """
        given = [("prompts.test", self.prompts)] if self.prompts not in ("test", "tuning") else []
        try:
            return build_config([("experiment", str(file)), *given, *self.overrides])
        except UserError as error:
            raise UserError(self._in_own_words(str(error))) from error

    def _in_own_words(self, message: str) -> str:
        for short, key in SHORT.items():
            if getattr(self, short) is not None:
                message = message.replace(key, short)
        return message


OWN = tuple(key.name for key in all_keys(EvaluateOptions) if "." not in key.name and key.name != "overrides")


def parse_options(argv: list[str]) -> EvaluateOptions:
    """Reads a command line without the program's name.

    Raises:
        UserError: one line that names the argument and a value that would work.
    """
    options = EvaluateOptions()
    for argument in argv:
        key, equals, text = argument.partition("=")
        if argument.startswith("-"):
            _refuse_unknown_flag(argument)
        elif key in OWN and text.lower() in NULLS and getattr(options, key) is None:
            continue
        elif key in OWN and equals:
            setattr(options, key, _value(key, text))
            if key in SHORT:
                options.overrides.append((SHORT[key], text))
        elif any(key == passed or key.startswith(f"{passed}.") for passed in PASSED_ON) and equals:
            options.overrides.append((key, text))
        elif not equals:
            raise UserError(f"argument {argument!r} has no '=': use e.g. ckpt_path={argument}")
        else:
            raise UserError(_unknown_key(key))
    if not options.ckpt_path:
        raise UserError(f"ckpt_path is missing: {EXAMPLE}")
    return options


def _value(key: str, text: str) -> Any:
    if key == "ckpt_path":
        return _paths(text)
    if key not in READ_AS:
        return _text(key, text)
    try:
        if key in ("lora_scale", "importance_power"):
            return _numbers(key, text)
        value = parse_override(READ_AS[key], text)
    except UserError as error:
        raise UserError(str(error).replace(READ_AS[key], key)) from error
    return _judges(value) if key == "judges" else value


_EXAMPLES = {
    "prompts": "tuning",
    "method": "plain",
    "out": "evaluation-tuning.json",
    "base": "runs/other/evaluation.json",
    "weights": "live",
    "lora_scale": "[0.5, 1.0]",
    "importance_power": "[0.5, 2.0]",
}


def _text(key: str, text: str) -> str:
    if not text or (key == "out" and not text.endswith(".json")):
        raise UserError(f"{key}={text}: use e.g. {key}={_EXAMPLES[key]}, or leave it out")
    if key == "weights" and text not in ("average", "live"):
        raise UserError(f"weights={text} is unknown: use one of average, live")
    own = text in ("test", "tuning") or text.startswith("pkg:")
    if key == "prompts" and not own and not Path(text).expanduser().is_file():
        raise UserError(f"prompts={text}: no such file; use test, tuning, or a text file with one prompt per line")
    return text


def _paths(text: str) -> list[str]:
    if not text.startswith("["):
        return [text] if text else []
    paths = _yaml("ckpt_path", text)
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise UserError(f"ckpt_path={text} is no list of paths: use e.g. ckpt_path=[RUN/checkpoints/last.ckpt]")
    return paths


def _numbers(key: str, text: str) -> list[Any]:
    """A list whose entries are those of the config's key, within its bounds."""
    values = _yaml(key, text)
    if not isinstance(values, list):
        raise UserError(f"{key}={text} has the wrong type: expected a list of numbers; use e.g. {key}={_EXAMPLES[key]}")
    values = [coerce(READ_AS[key], value) for value in values]
    for value in values:
        if value is not None and not 0 <= value < float("inf"):
            raise UserError(f"{key}: {value} is not a finite number of at least 0; use e.g. {key}={_EXAMPLES[key]}")
    if len(set(values)) < len(values):
        raise UserError(f"{key}={text} names a number twice: give each once")
    return values


def _judges(entries: list[dict[str, Any]]) -> list[RewardConfig]:
    for number, entry in enumerate(entries):
        if not entry.get("name"):
            raise UserError(f"judges.{number} has no name: use e.g. judges=[{{name: jpeg_compressibility}}]")
    return [RewardConfig(**entry) for entry in entries]


def _yaml(key: str, text: str) -> Any:
    try:
        return load_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or str(error)
        raise UserError(f"{key}={text}: not a YAML value ({reason}); lists look like [a, b]") from error


def _refuse_unknown_flag(flag: str) -> None:
    if flag in ("-h", "--help", "--debug"):
        return
    name = flag.lstrip("-").partition("=")[0].replace("-", "_")
    remedy = f"keys take no dashes, use {name}=VALUE" if name in OWN else f"the flags are {', '.join(FLAGS)}"
    raise UserError(f"unknown flag {flag!r}: {remedy}")


def _unknown_key(key: str) -> str:
    same = [short for short, name in READ_AS.items() if name == key and short != "fresh"]
    same += [name for name in PASSED_ON if name.rpartition(".")[2] == key]
    close = same or difflib.get_close_matches(key, [*OWN, *PASSED_ON], n=1, cutoff=0.6)
    if close:
        return f"unknown key {key!r}: did you mean {close[0]!r}?"
    try:
        resolve_type(key)
    except UserError:
        return f"unknown key {key!r}: --help lists all keys"
    return f"{key!r} is a setting of the run and cannot be changed any more: --help lists the keys of this command"


def help_text(width: int | None = None) -> str:
    """Usage, and every key with its type, default and meaning."""
    width = max(width or shutil.get_terminal_size((100, 24)).columns, 60)
    lines = [
        f"usage: {PROGRAM} ckpt_path=RUN_FOLDER [KEY=VALUE ...] [OPTION ...]",
        "",
        *_filled("Measure a run's checkpoints and its base model on prompts and noise that training never saw.", width),
        *_filled(
            "Writes evaluation.json and pictures of the same noise through all of them. Points that the file holds "
            "already are not measured again; a run that was interrupted goes on.",
            width,
        ),
        "",
        "keys:",
    ]
    for key in all_keys(EvaluateOptions):
        if key.name in OWN:
            default = f" (default: {format_value(key.default)})" if key.name != "ckpt_path" else " (required)"
            lines += [f"  {key.name:<18}{type_name(key.kind)}", *_filled(key.meaning + default, width, 6)]
    lines += ["", "keys of the run's config that may be given another value (python -m drift_pl.fit --help):"]
    lines += _filled(", ".join(PASSED_ON), width, 2)
    lines += ["", "options:", *(f"  {flag:<18}{text}" for flag, text in FLAGS.items()), "", "example:", f"  {EXAMPLE}"]
    return "\n".join(lines) + "\n"


def _filled(text: str, width: int, indent: int = 0) -> list[str]:
    blanks = " " * indent
    return textwrap.wrap(text, width, initial_indent=blanks, subsequent_indent=blanks, break_on_hyphens=False)
