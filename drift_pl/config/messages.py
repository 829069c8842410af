"""What is wrong with a setting, in one line: the key, what it takes, and an argument that works."""

import difflib
import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from drift_pl.config.fields import (
    ELSEWHERE,
    Section,
    about_of,
    all_keys,
    bounds_of,
    choices_of,
    element_type,
    find_key,
    is_mapping,
    is_section,
    pattern_of,
    strip_optional,
    type_name,
)
from drift_pl.config.yaml_text import format_value
from drift_pl.core.errors import UserError


def resolve_type(model: type[Section], key: str) -> Any:
    """The annotated type of a dotted key.

    Raises:
        UserError: there is no such key; the message names the nearest one.
    """
    kind: Any = model
    for part in key.split("."):
        inner, _ = strip_optional(kind)
        element = element_type(inner)
        if is_section(inner) and part in inner.model_fields:
            kind = inner.model_fields[part].annotation
        elif element is not None and re.fullmatch(r"-?\d+", part):
            kind = element
        elif is_mapping(inner) and part:
            return Any
        else:
            raise UserError(unknown_key(model, key))
    return kind


def unknown_key(model: type[Section], key: str) -> str:
    message = f"unknown key {key!r}"
    if ":" in key:
        return f"{message}: a mapping needs a blank after its colon, e.g. {{name: jpeg_compressibility}}"
    nearest = nearest_key(model, key)
    return f"{message}: did you mean {nearest!r}?" if nearest else f"{message}: --help lists all keys"


def nearest_key(model: type[Section], key: str) -> str | None:
    """The key that a misspelt one means: the same last word elsewhere, else the closest spelling."""
    indices = re.findall(r"(?<=\.)\d+(?=\.|$)", key)
    wanted = pattern_of(key)
    names = [entry.name for entry in all_keys(model)]
    candidates = names if "." in wanted else [name for name in names if "." not in name] + names
    last_word = wanted.rpartition(".")[2]
    same_word = [name for name in names if name.rpartition(".")[2] == last_word]
    close = difflib.get_close_matches(wanted, same_word, n=1, cutoff=0.0)
    close = close or difflib.get_close_matches(wanted, candidates, n=1, cutoff=0.6)
    if not close:
        words = {name.rpartition(".")[2]: name for name in reversed(names)}
        close = [words[word] for word in difflib.get_close_matches(last_word, words, n=1, cutoff=0.8)]
    if not close:
        return None
    for index in indices or ["0"]:
        close = [re.sub(r"\.N(?=\.|$)", f".{index}", close[0], count=1)]
    return close[0]


def working_example(model: type[Section], key: str) -> str:
    """An argument for this key that is accepted: its own default where that shows the form."""
    kind = strip_optional(resolve_type(model, key))[0]
    if is_section(kind):
        return working_example(model, f"{key}.{next(iter(kind.model_fields))}")
    entry = find_key(model, key)
    if entry and about_of(entry.field).example:
        return f"{key}={about_of(entry.field).example}"
    default = None if entry is None or entry.default in ([], {}, "") else entry.default
    return f"{key}={format_value(_sample(kind, key) if default is None else default)}"


def _sample(kind: Any, key: str) -> Any:
    element = element_type(kind)
    name = "jpeg_compressibility" if "rewards" in key.split(".") else ELSEWHERE
    if is_section(element):
        return [{"name": name}]
    if element is not None:
        return [0, 8] if element is int else [_sample(element, key)]
    if key.endswith(".name"):
        return name
    if is_mapping(kind):
        return {"pretrained": "FOLDER"}
    return {int: 8, float: 1.0, bool: True, Any: 1}.get(kind, "NAME")


def wrong_type(model: type[Section], key: str, shown: str) -> str:
    kind = strip_optional(resolve_type(model, key))[0]
    expected = type_name(resolve_type(model, key))
    if is_section(kind):
        expected = f"keys, e.g. {{name: {shown}}}" if "name" in kind.model_fields else "a section of keys"
    return f"{key}={shown} has the wrong type: expected {expected}; use e.g. {working_example(model, key)}"


def not_finite(model: type[Section], key: str, number: Any) -> str:
    return f"{key}={number} is not a finite number: use e.g. {working_example(model, key)}"


def first_of(error: ValidationError) -> ErrorDetails:
    """The complaint to show: that something is missing comes last, for it may be there, misspelt."""
    return min(error.errors(include_url=False), key=lambda complaint: complaint["type"] == "missing")


def explain(model: type[Section], error: ErrorDetails, shown: str | None = None) -> str:
    """pydantic's complaint in a user's words.

    Args:
        shown: the value as it was given; None: as it is now.
    """
    kind, key, value = error["type"], ".".join(map(str, error["loc"])), error["input"]
    if kind == "value_error":  # raised by a check of ours, which says everything
        return error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return unknown_key(model, key)
    if key.endswith(".[key]"):
        return f"{key.removesuffix('.[key]')}: {value!r} is not the name of an argument"
    shown = format_value(value) if shown is None else shown
    if kind == "missing" or (kind == "string_too_short" and key.endswith(".name")):
        thing = key.removesuffix(".name")
        return f"{thing} has no name: use e.g. {working_example(model, _list_of(thing))}"
    entry = find_key(model, _list_of(key))
    bounds = bounds_of(entry.field) if entry else {}
    if entry and kind in ("unknown_name", "literal_error"):
        return _unknown_name(entry.field, key, (error.get("ctx") or {}).get("name", value))
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        example = working_example(model, key).partition("=")[2]
        if len(bounds) == 2:
            return f"{key}={shown} does not lie in {interval(bounds)}: use e.g. {example}"
        least = "at least" if "ge" in bounds else "more than"
        example = example if float(example) or "gt" in bounds else str(bounds["ge"])
        return f"{key}={shown} is too small: it must be {least} {next(iter(bounds.values()))}, e.g. {example}"
    if kind == "float_type" and str(value).lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return not_finite(model, key, float(value))
    return wrong_type(model, key, shown)


def _list_of(key: str) -> str:
    """The list that a key is an entry of, or the key itself."""
    return re.sub(r"\.\d+$", "", key)


def interval(bounds: dict[str, float]) -> str:
    """Of a lower and an upper bound, as mathematicians write it."""
    left, right = "[" if "ge" in bounds else "(", "]" if "le" in bounds else ")"
    low, high = (bounds.get(one, bounds.get(other)) for one, other in (("ge", "gt"), ("le", "lt")))
    return f"{left}{low:g}, {high:g}{right}"


def _unknown_name(field: Any, key: str, name: Any) -> str:
    about, choices = about_of(field), ", ".join(choices_of(field))
    if element_type(field.annotation):
        return f"{_list_of(key)}: {name!r} is unknown: use some of {choices}, or []"
    null = "null or " if strip_optional(field.annotation)[1] else ""
    own = f", or {ELSEWHERE}" if about.registry and about.elsewhere else ""
    return f"{key}={name!r} is unknown: use {null}one of {choices}{own}"


def check_index(model: type[Section], length: int, key: str, index: str) -> None:
    """
    Raises:
        UserError: a list has no entry of this number.
    """
    example = working_example(model, key)
    if not length:
        raise UserError(f"{key}.{index}: the list {key} is empty; give it whole, e.g. {example}")
    if not index.isdigit() or int(index) >= length:
        known = f"{key}.0" if length == 1 else f"{key}.0 to {key}.{length - 1}"
        raise UserError(f"{key}.{index}: index out of range; there is {known}; or give it whole, e.g. {example}")
