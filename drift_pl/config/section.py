"""A section: settings that belong together, how a key is found in it, and what is said of a wrong one."""

import difflib
import re
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from drift_pl.config.fields import Key, about_of, inner_type, is_section
from drift_pl.config.yaml_text import format_value
from drift_pl.core.errors import UserError

MESSAGES = {"missing": "is missing", "model_type": "should be a section of keys", "too_short": "is empty"}
"""Kinds of errors -> the sentence, where it is not pydantic's own."""


class Section(BaseModel):
    """Settings that belong together: no other keys, and no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _known_name(cls, value: Any, info: ValidationInfo) -> Any:
        about = about_of(cls.model_fields[str(info.field_name)])
        if about.registry and not all(map(about.knows, value if isinstance(value, list) else [value])):
            expected = "a " * isinstance(value, list) + all_keys(cls)[str(info.field_name)].type_name
            raise PydanticCustomError("unknown_name", "should be {expected}", {"expected": expected})
        return value

    @field_validator("*")
    @classmethod
    def _countable(cls, value: Any) -> Any:
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, int) and abs(each) >= 2**53:
                raise PydanticCustomError("too_large", "has too many digits")
        return value

    @classmethod
    def find_key(cls, key: str) -> Key | None:
        """A dotted key, or the mapping that it is an entry of; None if there is none."""
        keys, name = all_keys(cls), pattern_of(key)
        if name in keys:
            return keys[name]
        above, _, last = name.rpartition(".")
        parent = cls.find_key(above) if above else None
        if parent and last == "N" and parent.element:
            return Key(name, parent.field, parent.element)
        return parent if parent and last and typing.get_origin(inner_type(parent.kind)) is dict else None

    @classmethod
    def key_names(cls) -> list[str]:
        """All keys, in the order of `--help`."""
        return [*all_keys(cls)]

    @classmethod
    def nearest(cls, key: str) -> str | None:
        """The key that a misspelt one means: the same last word elsewhere, else the closest spelling."""
        known, wanted = cls.key_names(), pattern_of(key)
        words = {name.rpartition(".")[2]: name for name in reversed(known)}
        last = wanted.rpartition(".")[2]
        same_word = [name for name in known if name.rpartition(".")[2] == last]
        close = difflib.get_close_matches(wanted, same_word, n=1, cutoff=0.0)
        close = close or difflib.get_close_matches(wanted, known, n=1, cutoff=0.6)
        close = close or [words[word] for word in difflib.get_close_matches(last, words, n=1, cutoff=0.8)]
        indices = iter(re.findall(r"(?<=\.)\d+(?=\.|$)", key))
        return re.sub(r"\.N(?=\.|$)", lambda _: f".{next(indices, 0)}", close[0]) if close else None

    @classmethod
    def unknown_key(cls, key: str) -> str:
        if ":" in key:
            return f"unknown key {key!r}: a mapping needs a blank after its colon, e.g. {{name: jpeg_compressibility}}"
        nearest = cls.nearest(key)
        return f"unknown key {key!r}: " + (f"did you mean {nearest!r}?" if nearest else "--help lists all keys")

    @classmethod
    def require_key(cls, key: str) -> Key:
        """The key of a dotted name; unlike `find_key`, it never returns None.

        Raises:
            UserError: there is no such key.
        """
        found = cls.find_key(key)
        if found is None:
            raise UserError(cls.unknown_key(key))
        return found

    @classmethod
    def works(cls, key: str, wrong: object = None) -> str:
        """An argument that is accepted for a key, or for the list that it is an entry of; see `Key.works`."""
        whole = re.sub(r"\.-?\d+$", "", key)
        return cls.require_key(whole).works(whole, wrong if whole == key else None)

    @classmethod
    def checked(cls, values: Mapping[str, Any], files: Mapping[str, str] | None = None, named: Any = None) -> Self:
        """The section of plain values.

        Args:
            files: key -> the file that it is from, for messages.
            named: the values with the names of environment variables, whose contents no message shows.

        Raises:
            UserError: a value does not fit its key, or values do not go together.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            # that a key is missing comes last, for it may be there, misspelt
            first = min(error.errors(include_url=False), key=lambda each: each["type"] == "missing")
            key = place = ".".join(map(str, first["loc"])).removesuffix(".[key]")
            if first["type"] == "value_error":  # raised by a check of ours, which says everything
                raise UserError(first["msg"].removeprefix("Value error, ")) from error
            while place and place not in (files or {}):
                place = place.rpartition(".")[0]
            file = f"{Path(files[place]).name}: " if files and files.get(place) else ""
            if first["type"] == "extra_forbidden":
                raise UserError(file + cls.unknown_key(key)) from error
            as_it_is = named is None or first["loc"][-1:] == ("[key]",)
            given = first["input"] if as_it_is else _at(named, first["loc"])
            shown = "" if first["type"] == "missing" else f"={format_value(given)}"
            sentence = MESSAGES.get(first["type"], first["msg"].removeprefix("Input "))
            raise UserError(f"{file}{key}{shown} {sentence}; use e.g. {cls.works(key, first['input'])}") from error


def _at(node: Any, place: Iterable[Any]) -> Any:
    """What stands at a place in plain values, or the last thing on the way to it."""
    for name in place:
        inside = isinstance(node, dict) and name in node or isinstance(node, list) and name in range(len(node))
        node = node[name] if inside else node
    return node


@cache
def all_keys(model: type[Section]) -> dict[str, Key]:
    """Every key below a section by its name, sections included, in the order of declaration."""
    return {key.name: key for key in _walk(model.model_construct(), "")}


def _walk(here: Section, prefix: str) -> Iterator[Key]:
    for name, field in type(here).model_fields.items():
        default = getattr(here, name, "")
        plain = default.model_dump() if isinstance(default, Section) else default
        key = Key(prefix + name, field, field.annotation, plain)
        yield key
        if isinstance(default, Section):
            yield from _walk(default, f"{key.name}.")
        elif is_section(key.element):
            yield from _walk(key.element.model_construct(), f"{key.name}.N.")


def pattern_of(key: str) -> str:
    """A dotted key with N for each index, as `Key.name` has it."""
    return re.sub(r"\.-?\d+(?=\.|$)", ".N", key)


def flat(node: Any, opened: Collection[type] = (), key: str = "") -> dict[str, Any]:
    """Dotted key -> value of a section's settings; the sections in it are opened.

    Args:
        opened: what is opened besides: `dict`, and `list` of what is opened itself, by the numbers of its entries.
        key: of the node.
    """
    kinds = (Section, dict) if dict in opened else Section
    below: dict[Any, Any] = dict(node) if isinstance(node, kinds) else {}
    if list in opened and isinstance(node, list) and node and isinstance(node[0], kinds):
        below = dict(enumerate(node))
    found = [flat(value, opened, f"{key}.{name}".lstrip(".")) for name, value in below.items()]
    return {name: value for part in found for name, value in part.items()} if found else {key: node}


def value_text(value: Any) -> str:
    """A setting's value as one types it after `KEY=`; entries of a list are without what is their default."""
    if isinstance(value, list):
        value = [each.model_dump(exclude_defaults=True) if isinstance(each, Section) else each for each in value]
    return format_value(value)
