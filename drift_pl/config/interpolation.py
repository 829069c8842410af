"""A bound on what `${...}` stands for: a few lines that refer to each other twice can stand for billions of copies."""

import re
from typing import Any

from drift_pl.core.errors import UserError

MOST = 1_000_000
"""Characters and entries of all settings with each `${...}` written out; those of an experiment are some thousand."""
INNER = re.compile(r"\$\{([^${}]*)")
KEY = re.compile(r"[\w.\[\]-]+")


def refuse_explosions(tree: Any) -> None:
    """Refuses settings that are too large with every `${...}` written out, before OmegaConf writes them out.

    Args:
        tree: plain settings, with their `${...}` as they were written.

    Raises:
        UserError: they stand for too much.
    """
    known: dict[str, float] = {}
    for key, node in tree.items():
        if _size(node, key, tree, known) > MOST and known:
            raise UserError(f"{key}: its ${{...}} stand for more than {MOST} characters; write out what they refer to")


def _size(node: Any, key: str, tree: Any, known: dict[str, float]) -> float:
    """Characters and entries below a key. What refers to itself counts once: OmegaConf says so."""
    if isinstance(node, dict):
        return 1 + sum(_size(value, f"{key}.{name}", tree, known) for name, value in node.items())
    if isinstance(node, list):
        return 1 + sum(_size(value, f"{key}.{number}", tree, known) for number, value in enumerate(node))
    if not isinstance(node, str):
        return 1
    size: float = len(node)
    for inner in INNER.findall(node):
        for word in KEY.findall(inner):
            there = _absolute(word, key)
            if there not in known:
                known[there] = 0  # as long as it is being counted
                known[there] = _size(_select(tree, there), there, tree, known)
            size += known[there]
    return size


def _absolute(word: str, key: str) -> str:
    """The dotted key of a reference; one that begins with dots starts at the section of the setting that holds it."""
    dotted = re.sub(r"\[(\w+)\]", r".\1", word)
    name = dotted.lstrip(".")
    dots = len(dotted) - len(name)
    if not dots or word.startswith("["):
        return name
    return ".".join([*key.split(".")[:-dots], name])


def _select(tree: Any, key: str) -> Any:
    """What stands at a key; None for nothing."""
    for part in key.split("."):
        if isinstance(tree, list):
            tree = tree[int(part)] if part.isdigit() and int(part) < len(tree) else None
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
