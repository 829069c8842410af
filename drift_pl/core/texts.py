"""What users write as text: lines of a file, objects of JSON lines; nothing that a tokenizer cannot read."""

import json
import re
from collections.abc import Iterator
from typing import Any

from drift_pl.core.errors import UserError, named
from drift_pl.core.locate import first_line, read_text

BLANK = r"[\s\ufeff\u200b\u2060]+"
"""White space, and what shows as none: the byte order mark of a file that was appended, zero-width blanks."""
EDGES = re.compile(f"^{BLANK}|{BLANK}$")


def stripped(text: str) -> str:
    """Text without white space and invisible marks at its ends."""
    return EDGES.sub("", text)


def is_plain(text: str) -> bool:
    """Whether files and paths can hold a text: it has no NUL and no lone surrogate."""
    return "\0" not in text and not has_lone_surrogate(text)


def has_lone_surrogate(text: str) -> bool:
    """Whether a text holds half of a character, as a broken escape leaves it; no encoding has bytes for it."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, stripped, with their numbers.

    Unlike `splitlines` it ends a line at line ends only, not at U+2028, U+0085 or a form feed, which may stand in a
    prompt.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        line = stripped(line)
        if line:
            yield number, line


def read_json_lines(name: str, example: str) -> Iterator[tuple[str, Any]]:
    """Entries of a UTF-8 JSON-lines file, each with its place for error messages; empty lines are skipped.

    Args:
        name: a path, or pkg:PACKAGE/FILE.
        example: a valid line, for error messages.

    Raises:
        UserError: there is no such file, it is not text, or a line is not JSON, or holds half of a character, NaN
            or Infinity.
    """
    for number, line in numbered_lines(read_text(name, f"a JSON-lines file with lines like {example}")):
        place = f"{named(name)}, line {number}"
        try:
            entry = json.loads(line)
            whole = not has_lone_surrogate(json.dumps(entry, ensure_ascii=False, allow_nan=False))
        except json.JSONDecodeError as error:
            raise UserError(f"{place}: not JSON ({error.msg}, column {error.colno}); write {example}") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: JSON that cannot be read ({first_line(error)}); write {example}") from error
        if not whole:
            raise UserError(f"{place}: half of a character (a lone surrogate such as \\ud83d): write all of it")
        yield place, entry
