"""Whether plain JSON content has the fields that it should, each of its type."""

import types
import typing
from collections.abc import Mapping
from typing import Any


def take(content: Any, kinds: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The named entries of a mapping, each of its kind; further ones are left out.

    Args:
        content: what was read.
        kinds: name -> annotated type; of mappings the entries are not looked at.
        where: the mapping's dotted place with a dot at its end, to be named in errors; empty at the top.

    Raises:
        ValueError: an entry is missing or of another type.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{where.rstrip('.')} is no mapping")
    for name, kind in kinds.items():
        if name not in content:
            raise ValueError(f"{where}{name} is missing")
        if not fits(content[name], typing.get_origin(kind) if typing.get_origin(kind) is dict else kind):
            raise ValueError(f"{where}{name} is of the wrong type")
    return {name: content[name] for name in kinds}


def fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value has an annotated type: a scalar, None, a list or a union of these."""
    if isinstance(kind, types.UnionType):
        return any(fits(value, member) for member in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return isinstance(value, list) and all(fits(entry, typing.get_args(kind)[0]) for entry in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
