"""The text of `--help`: usage, and every key with all that is known of it."""

import shutil
import textwrap
from collections.abc import Iterable, Mapping

from drift_pl.config.fields import Key
from drift_pl.config.yaml_text import format_value
from drift_pl.core.registry import TABLES


def help_text(usage: str, purpose: str, blocks: Mapping[str, Iterable[str]], width: int | None = None) -> str:
    """The text that `--help` prints: usage, purpose and titled blocks, wrapped to a width.

    Args:
        blocks: title -> lines, which are wrapped with their own indentation.
        width: columns; None takes the terminal's.
    """
    lines = [f"usage: {usage} [KEY=VALUE ...] [FLAG ...]", "", " ".join(purpose.split())]
    for title, block in blocks.items():
        lines += ["", f"{title}:", *block]
    columns = max(width or shutil.get_terminal_size((100, 24)).columns, 60)
    return "\n".join(_fill(line, columns) for line in lines) + "\n"


def table(rows: Mapping[str, str]) -> list[str]:
    """A line per name and its explanation."""
    indent = max(map(len, rows), default=0) + 2
    return [f"  {name:<{indent}}{text}".rstrip() for name, text in rows.items()]


def entry(name: str, key: Key, default: str = "") -> list[str]:
    """A key with its type, choices, bounds, default and condition, and below it its meaning.

    Args:
        default: shown in place of the key's own.
    """
    if key.is_section:
        return [*[""] * ("." not in name), f"  {name}: {key.field.description}"]
    facts = [", ".join([key.type_name, *key.bounds])]
    facts.append("required" if key.field.is_required() else f"default: {default or format_value(key.default) or '-'}")
    facts += [f"only with {key.about.condition}"] if key.about.only else []
    names = TABLES[key.about.registry] if key.about.registry else {}
    about = [f"        {name}: {described.about}" for name, described in names.items()]
    return [f"  {name} ({'; '.join(facts)})", f"      {key.field.description}", *about]


def _fill(line: str, width: int) -> str:
    """Wrapped so that no path or hyphenated name is cut in two."""
    spaces = len(line) - len(line.lstrip())
    indent = " " * (spaces if spaces > 2 else 3 * spaces)
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
