"""What `--help WORD` shows: a key, the keys of a section, or the registered names of a kind."""

import difflib
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points

from drift_pl.config.help import table
from drift_pl.core.errors import UserError
from drift_pl.core.registry import GROUPS, TABLES
from drift_pl.core.sources import written_summary

KINDS = {{"family": "families", "categories": "categories"}.get(kind, f"{kind}s"): kind for kind in TABLES}
"""Word for `--help` -> kind of the registry."""


def topics_of(argv: Sequence[str]) -> list[str]:
    """The words of a command line that are neither flags nor KEY=VALUE."""
    return [word for word in argv if not word.startswith("-") and "=" not in word]


def registered(kind: str) -> list[str]:
    """A line per name: this package's, and those that installed packages offer. Imports none of them."""
    rows = {name: known.about for name, known in TABLES[kind].items()}
    for offered in entry_points(group=GROUPS[kind]) if kind in GROUPS else ():
        rows.setdefault(offered.name, written_summary(offered.value) or offered.value)
    own = f"  their_package.module:Thing, and names of the entry point group {GROUPS[kind]}" if kind in GROUPS else ""
    return [*table(rows), *([own] if own else [])]


def topic_blocks(
    topics: Sequence[str], entries: Mapping[str, Sequence[str]], ignore_unknown: bool = False
) -> dict[str, list[str]]:
    """Title -> lines of what the topics name.

    Args:
        entries: key -> its lines of the help.
        ignore_unknown: words may be paths, which say nothing of the help.

    Raises:
        UserError: a topic is neither a key nor a kind.
    """
    blocks: dict[str, list[str]] = {}
    for topic in topics:
        below = [name for name in entries if topic == "all" or name == topic or name.startswith(f"{topic}.")]
        kind = KINDS.get(topic, topic if topic in TABLES and not below else "")
        if below:
            blocks[f"keys of {topic}" if topic != "all" else "keys"] = [line for key in below for line in entries[key]]
        if kind:
            blocks[f"registered {plural(kind)}"] = registered(kind)
        if not below and not kind and not ignore_unknown:
            close = difflib.get_close_matches(topic, [*entries, *KINDS, "all"], n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else "--help alone lists the sections"
            raise UserError(f"--help {topic}: there is no such key, section or kind of names; {hint}")
    return blocks


def plural(kind: str) -> str:
    return next(word for word, known in KINDS.items() if known == kind)
