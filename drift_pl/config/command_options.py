"""Commands with a handful of keys of their own: KEY=VALUE arguments into a dataclass. No torch, so `--help` is quick.

A key that means what a key of the run's config means is read as that one, with its type and its bounds, and goes on
into the config; messages speak of the key that was given.
"""

import difflib
import math
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from drift_pl.config.arguments import build_config
from drift_pl.config.keys import format_value, hints, resolve_type, strip_optional, type_name
from drift_pl.config.literals import YES, parse_override
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

Options = TypeVar("Options")

FLAGS = {"-h, --help": "show this text", "--debug": "show the traceback of an error"}
NULLS = ("null", "none", "~")


def key(
    default: Any,
    meaning: str,
    example: str,
    *,
    required: bool = False,
    choices: Sequence[str] = (),
    least: int | None = None,
    sets: str = "",
    name: str = "",
) -> Any:
    """A field that is a key of a command.

    Args:
        example: a value that works.
        choices: the texts that it takes; empty for any.
        least: of a number.
        sets: the dotted key of the run's config that it stands for.
        name: of the key; empty for the field's own.
    """
    doc = {"doc": meaning, "example": example, "required": required, "choices": tuple(choices), "least": least}
    return field(default=default, metadata={**doc, "sets": sets, "name": name})


def checkpoint_key() -> Any:
    """Which run, or which of its checkpoints."""
    return key("", "a run folder (its last checkpoint), or a checkpoint", "runs/shapes_div-bf23135e-s0", required=True)


def weights_key() -> Any:
    """Which of a checkpoint's weights."""
    return key("average", "average (the EMA, in runs that have one) or live", "live", choices=("average", "live"))


def pretrained_key() -> Any:
    """Where the base model of a run from elsewhere is."""
    meaning, name = "where the base model is now; null: where the run found it", "policy.pretrained"
    return key(None, meaning, "/models/sd3.5-medium", sets=name, name=name)


@dataclass(frozen=True)
class Command(Generic[Options]):
    """What a command's `--help` and messages say of it.

    Attributes:
        name: of its module in this package.
        purpose: what it does, in sentences.
        example: its arguments.
        kind: dataclass of its keys.
    """

    name: str
    purpose: str
    example: str
    kind: type[Options]

    @property
    def program(self) -> str:
        return f"python -m drift_pl.{self.name}"


@dataclass(frozen=True)
class Request(Generic[Options]):
    """What a command line asks for.

    Attributes:
        options: the command's own keys.
        overrides: (key of the run's config, text, key as it was given).
    """

    options: Options
    overrides: tuple[tuple[str, str, str], ...]

    def config(self, file: Path) -> Config:
        """The config of the run that wrote `file`, with what was asked for put in.

        Raises:
            UserError: the file cannot be read, or a value is none that the config takes.
        """
        try:
            return build_config([("experiment", str(file)), *((sets, text) for sets, text, _ in self.overrides)])
        except UserError as error:
            message = str(error)
            for sets, _, given in self.overrides:
                message = message.replace(sets, given)
            raise UserError(message) from error


def asks_for_help(argv: Sequence[str]) -> bool:
    return not argv or "--help" in argv or "-h" in argv


def parse_request(command: Command[Options], argv: Sequence[str]) -> Request[Options]:
    """Reads a command line without the program's name; of a key that comes twice, the later value counts.

    Raises:
        UserError: one line that names the argument and a value that would work.
    """
    known = {_name(entry): entry for entry in fields(command.kind)}  # type: ignore[arg-type]
    kinds = hints(command.kind)  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    overrides: dict[str, tuple[str, str, str]] = {}
    for argument in argv:
        name, equals, text = argument.partition("=")
        if argument.startswith("-"):
            _refuse_unknown_flag(argument, known)
            continue
        if not equals:
            raise UserError(f"argument {argument!r} has no '=': use e.g. ckpt_path={argument}")
        if name not in known:
            raise UserError(_unknown_key(name, known))
        entry = known[name]
        values[entry.name] = _read(name, kinds[entry.name], text, entry)
        if entry.metadata["sets"]:
            overrides[name] = (entry.metadata["sets"], text, name)
    missing = [name for name, entry in known.items() if entry.metadata["required"] and entry.name not in values]
    if missing:
        raise UserError(f"{missing[0]} is missing: {command.program} {command.example}")
    return Request(command.kind(**values), tuple(overrides.values()))


def _read(name: str, kind: Any, text: str, entry: Field) -> Any:
    inner, optional = strip_optional(kind)
    about = entry.metadata
    remedy = f"use e.g. {name}={about['example']}"
    if about["sets"]:
        try:
            return parse_override(about["sets"], text)
        except UserError as error:
            raise UserError(str(error).replace(about["sets"], name)) from error
    if optional and text.lower() in NULLS:
        return None
    if inner is str:
        if not text.strip():
            raise UserError(f"{name}= is empty: {remedy}")
        if about["choices"] and text not in about["choices"]:
            raise UserError(f"{name}={text} is unknown: use one of {', '.join(about['choices'])}")
        return text
    if inner is bool:
        if text.lower() not in YES:
            raise UserError(f"{name}={text} has the wrong type: expected bool; {remedy}")
        return YES[text.lower()]
    try:
        value = inner(text)
    except ValueError as error:
        raise UserError(f"{name}={text} has the wrong type: expected {type_name(kind)}; {remedy}") from error
    if not math.isfinite(value) or (about["least"] is not None and value < about["least"]):
        raise UserError(f"{name}={text} is too small: it is at least {about['least']}; {remedy}")
    return value


def _name(entry: Field) -> str:
    return entry.metadata["name"] or entry.name


def _refuse_unknown_flag(flag: str, known: dict[str, Field]) -> None:
    if flag in ("-h", "--help", "--debug"):
        return
    name = flag.lstrip("-").partition("=")[0].replace("-", "_")
    remedy = f"keys take no dashes, use {name}=VALUE" if name in known else f"the flags are {', '.join(FLAGS)}"
    raise UserError(f"unknown flag {flag!r}: {remedy}")


def _unknown_key(name: str, known: dict[str, Field]) -> str:
    ends = (f".{name}", f"_{name}")  # importance_power: the last words of sampler.eval_importance_power
    same = [own for own, entry in known.items() if entry.metadata["sets"] == name]
    same += [own for own, entry in known.items() if own.endswith(ends) or entry.metadata["sets"].endswith(ends)]
    close = same or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"unknown key {name!r}: did you mean {close[0]!r}?"
    try:
        resolve_type(name)
    except UserError:
        return f"unknown key {name!r}: the keys are {', '.join(known)}"
    return f"{name!r} is a setting of the run and cannot be changed any more: --help lists the keys of this command"


def help_text(command: Command[Any], width: int | None = None) -> str:
    """Usage, and every key with its type, default and meaning."""
    width = max(width or shutil.get_terminal_size((100, 24)).columns, 60)
    required = [f"{_name(entry)}=..." for entry in fields(command.kind) if entry.metadata["required"]]
    lines = [f"usage: {command.program} {' '.join(required)} [KEY=VALUE ...] [OPTION ...]", ""]
    lines += [*_filled(command.purpose, width), "", "keys:"]
    kinds = hints(command.kind)  # type: ignore[arg-type]
    for entry in fields(command.kind):
        default = "required" if entry.metadata["required"] else f"default: {format_value(entry.default)}"
        lines.append(f"  {_name(entry):<18}{type_name(kinds[entry.name])}")
        lines += _filled(f"{entry.metadata['doc']} ({default})", width, 6)
    lines += ["", "options:", *(f"  {flag:<18}{text}" for flag, text in FLAGS.items())]
    return "\n".join([*lines, "", "example:", f"  {command.program} {command.example}"]) + "\n"


def _filled(text: str, width: int, indent: int = 0) -> list[str]:
    blanks = " " * indent
    return textwrap.wrap(text, width, initial_indent=blanks, subsequent_indent=blanks, break_on_hyphens=False)
