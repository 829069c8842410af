"""Names and values that somebody chose, as Markdown that shows them, addresses without keys, and does nothing else."""

import re

from drift_pl.core.servers import without_queries


def code(name: str) -> str:
    """A name as code: neither Markdown nor HTML reads it, and it stays on its line."""
    return f"`{one_line(without_queries(name)).replace('`', chr(39))}`"


def plain(name: str) -> str:
    """A name as text: no HTML, no link, no image, no code, no emphasis, and at the start of a line no heading or list.

    An underscore after a letter or a digit opens nothing, and stays readable in the source.
    """
    return re.sub(r"[\\`*!\[\]]|(?<![^\W_])_|^[#>+-]", r"\\\g<0>", harmless(name))


def harmless(text: str) -> str:
    """Text of ours with names in it, in which nothing is HTML."""
    return one_line(without_queries(text).replace("&", "&amp;").replace("<", "&lt;"))


def row(cells: list[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(one_line(cell.replace('|', chr(92) + '|')) for cell in cells)} |"


def one_line(text: str) -> str:
    return " ".join(text.split())
