"""The dotted keys of a `Config`: their types, their meanings, and which one a misspelt key meant."""

import difflib
import math
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from drift_pl.config.schema import Config, NamedConfig
from drift_pl.core.errors import UserError


@dataclass(frozen=True)
class Key:
    """One key as `--help` shows it. `name` writes N for the index into a list: `rewards.N.weight`."""

    name: str
    kind: Any
    default: Any
    meaning: str
    is_section: bool = False


@cache
def hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def strip_optional(kind: Any) -> tuple[Any, bool]:
    """(the type without None, whether None is allowed)."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        return members[0], len(members) < len(typing.get_args(kind))
    return kind, False


def element_type(kind: Any) -> Any:
    """Type of a list's entries; None if `kind` is no list."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else None


def is_mapping_type(kind: Any) -> bool:
    return kind is dict or typing.get_origin(kind) is dict


@cache
def all_keys(kind: type = Config, prefix: str = "") -> tuple[Key, ...]:
    """Every key below a dataclass, sections included, in the order of declaration."""
    return tuple(_walk(kind, prefix))


def _walk(kind: type, prefix: str) -> Iterator[Key]:
    for entry in fields(kind):
        inner, _ = strip_optional(hints(kind)[entry.name])
        element = element_type(inner)
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        name, meaning = prefix + entry.name, entry.metadata.get("doc", "")
        yield Key(name, hints(kind)[entry.name], default, meaning, is_dataclass(inner))
        if is_dataclass(inner):
            yield from _walk_below(type(default), default, f"{name}.")
        elif isinstance(element, type) and is_dataclass(element):
            yield from _walk(element, f"{name}.N.")


def _walk_below(kind: Any, section: Any, prefix: str) -> Iterator[Key]:
    """As `_walk`, with the defaults that this place of the tree gives (an encoder has its own `name`)."""
    own = {entry.name: getattr(section, entry.name) for entry in fields(kind)}
    for key in _walk(kind, prefix):
        field_name = key.name.removeprefix(prefix)
        yield (Key(key.name, key.kind, own[field_name], key.meaning, key.is_section) if field_name in own else key)


def resolve_type(key: str) -> Any:
    """The annotated type of a dotted key.

    Raises:
        UserError: there is no such key; the message names the nearest one.
    """
    kind: Any = Config
    for part in key.split("."):
        inner, _ = strip_optional(kind)
        element = element_type(inner)
        if is_dataclass(inner) and part in hints(inner):  # type: ignore[arg-type]
            kind = hints(inner)[part]  # type: ignore[arg-type]
        elif element is not None and re.fullmatch(r"-?\d+", part):
            kind = element
        elif is_mapping_type(inner) and part:
            return Any
        else:
            raise UserError(unknown_key_message(key))
    return kind


def unknown_key_message(key: str) -> str:
    message = f"unknown key {key!r}"
    if ":" in key:
        return f"{message}: a mapping needs a blank after its colon, e.g. {{name: jpeg_compressibility}}"
    nearest = nearest_key(key)
    return f"{message}: did you mean {nearest!r}?" if nearest else f"{message}: --help lists all keys"


def nearest_key(key: str) -> str | None:
    """The key that a misspelt one means: the same last word elsewhere, else the closest spelling."""
    indices = re.findall(r"(?<=\.)\d+(?=\.|$)", key)
    wanted = re.sub(r"\.\d+(?=\.|$)", ".N", key)
    names = [entry.name for entry in all_keys()]
    candidates = names if "." in wanted else [name for name in names if "." not in name] + names
    last_word = wanted.rsplit(".", 1)[-1]
    same_word = [name for name in names if name.rsplit(".", 1)[-1] == last_word]
    close = difflib.get_close_matches(wanted, same_word, n=1, cutoff=0.0)
    close = close or difflib.get_close_matches(wanted, candidates, n=1, cutoff=0.6)
    if not close:
        words = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
        close = [words[word] for word in difflib.get_close_matches(last_word, words, n=1, cutoff=0.8)]
    if not close:
        return None
    for index in indices or ["0"]:
        close = [re.sub(r"\.N(?=\.|$)", f".{index}", close[0], count=1)]
    return close[0]


def type_name(kind: Any) -> str:
    """A type in a user's words."""
    inner, optional = strip_optional(kind)
    element = element_type(inner)
    if element is not None:
        name = "list of mappings" if is_dataclass(element) else f"list of {type_name(element)}"
    elif is_dataclass(inner):
        name = "section"
    elif is_mapping_type(inner):
        name = "mapping"
    else:
        name = {int: "int", float: "float", bool: "bool", str: "text"}.get(inner, "anything")
    return f"{name} or null" if optional else name


def working_example(key: str, kind: Any) -> str:
    """An argument for this key that is accepted: its own default where that shows the form."""
    inner, _ = strip_optional(kind)
    if is_dataclass(inner):
        first = f"{key}.{fields(inner)[0].name}"
        return working_example(first, resolve_type(first))
    pattern = re.sub(r"\.-?\d+(?=\.|$)", ".N", key)
    default = next((entry.default for entry in all_keys() if entry.name == pattern), None)
    if default is None or default == [] or default == {} or default == "":
        default = _sample(inner, pattern)
    return f"{key}={format_value(default)}"


def _sample(kind: Any, key: str) -> Any:
    element = element_type(kind)
    name = "jpeg_compressibility" if "rewards" in key.split(".") else "their_package.module:Thing"
    if is_dataclass(element):
        return [{"name": name}]
    if key == "evaluation.extra":
        return ["rke"]
    if element is not None:
        return [0, 8] if element is int else [_sample(element, key)]
    if key.endswith(".name"):
        return name
    if is_mapping_type(kind):
        return {"pretrained": "FOLDER"}
    return {int: 8, float: 1.0, bool: True, Any: 1}.get(kind, "NAME")


def format_value(value: Any) -> str:
    """A value as one types it after `KEY=`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(format_value(entry) for entry in value) + "]"
    if isinstance(value, NamedConfig):
        value = {"name": value.name, "args": value.args}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {format_value(entry)}" for name, entry in value.items()) + "}"
    return str(value)


def find_non_finite(value: Any, key: str = "") -> tuple[str, float] | None:
    """The first (dotted key, number) below a plain value that is NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        return key, value
    below = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for name, entry in below:
        found = find_non_finite(entry, f"{key}.{name}" if key else str(name))
        if found:
            return found
    return None
