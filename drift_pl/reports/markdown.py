"""Names and values that somebody chose, as Markdown that shows them, addresses without keys, and does nothing else."""

import re

from drift_pl.core.servers import without_queries


def code(name: str) -> str:
    """A name as code: neither Markdown nor HTML reads it, and it stays on its line."""
    return f"`{one_line(without_queries(name)).replace('`', chr(39))}`"


def plain(name: str) -> str:
    """A name as text: no HTML, no link, no image, no code."""
    return re.sub(r"([\\`*!\[\]])", r"\\\1", harmless(name))


def harmless(text: str) -> str:
    """Text of ours with names in it, in which nothing is HTML."""
    return one_line(without_queries(text).replace("&", "&amp;").replace("<", "&lt;"))


def row(cells: list[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(one_line(cell.replace('|', chr(92) + '|')) for cell in cells)} |"


def one_line(text: str) -> str:
    return " ".join(text.split())
