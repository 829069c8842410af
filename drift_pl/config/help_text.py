"""The text of `--help`: usage, experiments, and every key with its type, default and meaning."""

import shutil
import textwrap
from itertools import groupby

from drift_pl.config.experiment_files import list_experiments
from drift_pl.config.keys import Key, all_keys, format_value, type_name

OPTIONS = {
    "-h, --help": "show this text",
    "--print-config": "print the whole config as YAML and stop; saved, it runs as an experiment",
    "--debug": "show the traceback of an error",
}
NARROW = 110
"""Columns below which a key's meaning goes on lines of its own."""


def help_text(
    program: str = "python -m drift_pl.fit",
    purpose: str = "Fine-tune a text-to-image model on a reward and keep its diversity.",
    width: int | None = None,
) -> str:
    """The help of a command that takes a `Config`.

    Args:
        program: how the command is called.
        purpose: one sentence.
        width: columns; None takes the terminal's.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    width = max(width, 60)
    blocks = [
        f"usage: {program} [experiment=NAME] [KEY=VALUE ...] [OPTION ...]",
        _wrap(purpose, width, 0),
        _wrap(
            "experiment= is read first, then the overrides from left to right. Lists count from 0:"
            " rewards.0.weight=2."
            " Resume with ckpt_path=last (an error if there is none) or ckpt_path=auto (resume or start).",
            width,
            0,
        ),
        "options:\n" + _table(OPTIONS, width),
        "experiments (experiment=NAME, or the path of a .yaml file):\n" + _table(list_experiments(), width),
    ]
    groups = [list(keys) for _, keys in groupby(all_keys(), key=lambda key: key.name.split(".")[0])]
    alone = [keys[0] for keys in groups if len(keys) == 1]
    blocks.append("\n".join(["general:", *(_entry(key, width) for key in alone)]))
    blocks += [_section(keys, width) for keys in groups if len(keys) > 1]
    return "\n\n".join(blocks) + "\n"


def _section(keys: list[Key], width: int) -> str:
    head, *rest = keys
    if head.is_section:
        lines = [_fill(f"{head.name}: {head.meaning}", width)]
    else:
        lines = [f"{head.name}:", _entry(head, width)]
    lines += [_heading(key, width) if key.is_section else _entry(key, width) for key in rest]
    return "\n".join(lines)


def _heading(key: Key, width: int) -> str:
    return _fill(f"{key.name}: {key.meaning}", width, initial_indent="  ", subsequent_indent="    ")


def _entry(key: Key, width: int) -> str:
    left = f"  {key.name:<38} {type_name(key.kind):<17}"
    default = format_value(key.default) if key.default != "" else "empty"
    meaning = f"{key.meaning} (default: {default})"
    if width < NARROW:
        return left.rstrip() + "\n" + _wrap(meaning, width, 6)
    return _fill(meaning, width, initial_indent=f"{left} ", subsequent_indent=" " * (len(left) + 1))


def _table(rows: dict[str, str], width: int) -> str:
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
