"""The text of `--help`: usage, and every key with its type, choices, bounds, default and meaning."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

from pydantic.fields import FieldInfo

from drift_pl.config import experiments, loading
from drift_pl.config.command_line import FLAGS, asks_for_help
from drift_pl.config.fields import ELSEWHERE, Key, about_of, all_keys, bounds_of, choices_of, find_key, type_name
from drift_pl.config.messages import interval
from drift_pl.config.options import Options
from drift_pl.config.schema import Config
from drift_pl.config.yaml_text import format_value

Given = TypeVar("Given", bound=Options)
NARROW = 110
"""Columns below which a key's meaning goes on lines of its own."""


def config_help(width: int | None = None) -> str:
    """The help of the command that takes a whole `Config`.

    Args:
        width: columns; None takes the terminal's.
    """
    width = _columns(width)
    blocks = [
        "usage: python -m drift_pl.fit [experiment=NAME] [KEY=VALUE ...] [OPTION ...]",
        _wrap("Fine-tune a text-to-image model on a reward and keep its diversity.", width, 0),
        _wrap(
            "experiment= is read first, then the overrides from left to right. Lists count from 0:"
            " rewards.0.weight=2."
            " ckpt_path=RUN_FOLDER goes on with a run, under its own config; ckpt_path=auto beside a run's arguments"
            " resumes it or starts it, whichever is due.",
            width,
            0,
        ),
        "options:\n" + _table(loading.FLAGS, width),
        "experiments (experiment=NAME, or the path of a .yaml file):\n" + _table(experiments.list_experiments(), width),
    ]
    groups = [list(keys) for _, keys in groupby(all_keys(Config), key=lambda key: key.name.split(".")[0])]
    alone = [keys[0] for keys in groups if len(keys) == 1]
    blocks.append("\n".join(["general:", *(_entry(key, width) for key in alone)]))
    blocks += [_section(keys, width) for keys in groups if len(keys) > 1]
    return "\n\n".join(blocks) + "\n"


def options_help(options: type[Options], width: int | None = None) -> str:
    """The help of a command with keys of its own."""
    width = _columns(width)
    fields = {key.name: key for key in all_keys(options) if key.name in options.own_keys()}
    required = [f"{name}=..." for name, key in fields.items() if key.field.is_required()]
    paths = [f"{options.paths_field.upper()} ..."] if options.paths_field else []
    blocks = [
        f"usage: {options.program} {' '.join([*paths, *required])} [KEY=VALUE ...] [OPTION ...]",
        _wrap(options.purpose, width, 0),
        "keys:\n" + "\n".join(_entry(key, width) for key in fields.values()),
    ]
    if options.passed_on:
        keys = [key for key in all_keys(Config) if key.name in options.passed_on]
        title = _wrap("keys of the run's config that may be given another value, and keys below them:", width, 0)
        blocks.append("\n".join([title, *(_entry(key, width, "the run's") for key in keys)]))
    blocks += ["options:\n" + _table(FLAGS, width), f"example:\n  {options.program} {options.example}"]
    return "\n\n".join(blocks) + "\n"


def read_options(options: type[Given], argv: Sequence[str]) -> Given | None:
    """What a command line asks for; None if it asks for help, or for nothing: then that has been printed.

    Raises:
        UserError: see `Options.parse`.
    """
    if argv and not asks_for_help(argv):
        return options.parse(argv)
    print(options_help(options), end="")
    return None


def _columns(width: int | None) -> int:
    return max(width or shutil.get_terminal_size((100, 24)).columns, 60)


def _section(keys: list[Key], width: int) -> str:
    head, *rest = keys
    if head.is_section:
        lines = [_fill(f"{head.name}: {head.field.description}", width)]
    else:
        lines = [f"{head.name}:", _entry(head, width)]
    lines += [_heading(key, width) if key.is_section else _entry(key, width) for key in rest]
    return "\n".join(lines)


def _heading(key: Key, width: int) -> str:
    return _fill(f"{key.name}: {key.field.description}", width, initial_indent="  ", subsequent_indent="    ")


def _entry(key: Key, width: int, default: str = "") -> str:
    field, kind = key.field, key.field.annotation
    known = find_key(Config, about_of(field).reads)
    if known:
        field, kind = known.field, (known.field.annotation if kind is Any else kind)
    default = default or format_value(key.default) or "empty"
    facts = [*_facts(field), "required" if key.field.is_required() else f"default: {default}"]
    meaning = f"{key.field.description} ({'; '.join(facts)})"
    name = type_name(kind) + (" or null" if known and default == "null" and "null" not in type_name(kind) else "")
    left = f"  {key.name:<38} {name:<17}"
    if width < NARROW:
        return left.rstrip() + "\n" + _wrap(meaning, width, 6)
    return _fill(meaning, width, initial_indent=f"{left} ", subsequent_indent=" " * (len(left) + 1))


def _facts(field: FieldInfo) -> list[str]:
    """When a key counts, and what it takes."""
    about, bounds, choices = about_of(field), bounds_of(field), choices_of(field)
    facts = [f"only with {about.only[0]}={' or '.join(about.only[1:])}"] if about.only else []
    if choices:
        own = [ELSEWHERE] if about.registry and about.elsewhere else []
        facts.append(f"one of {', '.join([*choices, *own])}")
    if len(bounds) == 2:
        facts.append(f"in {interval(bounds)}")
    elif bounds:
        facts.append(f"{'at least' if 'ge' in bounds else 'more than'} {next(iter(bounds.values()))}")
    return facts


def _table(rows: Mapping[str, str], width: int) -> str:
    indent = max((len(name) for name in rows), default=0) + 4
    return "\n".join(
        _fill(text, width, initial_indent=f"  {name:<{indent - 2}}", subsequent_indent=" " * indent)
        if text
        else f"  {name}"
        for name, text in rows.items()
    )


def _wrap(text: str, width: int, indent: int) -> str:
    blanks = " " * indent
    return _fill(text, width, initial_indent=blanks, subsequent_indent=blanks)


def _fill(text: str, width: int, initial_indent: str = "", subsequent_indent: str = "") -> str:
    """Wrapped so that no path or hyphenated name is cut in two."""
    wrapper = textwrap.TextWrapper(width, initial_indent, subsequent_indent)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.fill(text)
