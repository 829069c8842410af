"""A setting is a field of a `Section`: it says once its type, default, choices, bounds, meaning and when it counts."""

import re
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from drift_pl.core.registry import GROUPS, TABLES, names

ELSEWHERE = "their_package.module:Thing"
"""How a thing of another package is named."""
Flag = Annotated[bool, Strict(False)]
"""true or false; yes, no, on, off, 1 and 0 as well."""


@dataclass(frozen=True)
class About:
    """What a field says of itself besides type, default, bounds and meaning; see `setting`."""

    registry: str = ""
    also: tuple[str, ...] = ()
    elsewhere: bool = True
    shapes_results: bool = True
    only: tuple[str, ...] = ()
    example: str = ""
    reads: str = ""
    sets: bool = False


def setting(
    default: Any,
    meaning: str,
    *,
    registry: str = "",
    also: Sequence[str] = (),
    elsewhere: bool = True,
    shapes_results: bool = True,
    only: Sequence[str] = (),
    example: str = "",
    reads: str = "",
    sets: str = "",
    **bounds: Any,
) -> Any:
    """A field with its default (`...`: required) and the sentence that `--help` prints.

    Args:
        registry: kind of the registry whose names it takes; names with a colon and entry points too.
        also: names that it takes besides.
        elsewhere: False: the registry's own names only.
        shapes_results: whether runs that differ in it alone have different results.
        only: (another key, its values ...): it has no effect with other values there.
        example: a value that works, where the default shows none.
        reads: of a command: the key of the run's config whose type and bounds it (or each of its entries) has.
        sets: the same, and the value goes on into the config.
        bounds: pydantic's: ge, gt, le, lt.
    """
    about = About(registry, tuple(also), elsewhere, shapes_results, tuple(only), example, sets or reads, bool(sets))
    extra: Any = {"about": about}
    return Field(default, description=meaning, json_schema_extra=extra, **bounds)


def about_of(field: FieldInfo) -> About:
    extra = field.json_schema_extra
    found = extra.get("about") if isinstance(extra, dict) else None
    return found if isinstance(found, About) else About()


class Section(BaseModel):
    """Settings that belong together: no key but its own, and no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("*")
    @classmethod
    def _known_name(cls, value: Any, info: ValidationInfo) -> Any:
        about = about_of(cls.model_fields[str(info.field_name)])
        for name in value if isinstance(value, list) else [value]:
            if about.registry and not _is_known(name, about):
                raise PydanticCustomError("unknown_name", "unknown", {"name": name})
        return value


def _is_known(name: str, about: About) -> bool:
    kind = about.registry
    if name in TABLES[kind] or name in about.also:
        return True
    offered = {entry.name for entry in entry_points(group=GROUPS[kind])} if about.elsewhere and kind in GROUPS else ()
    return about.elsewhere and ((":" in name and "${" not in name) or name in offered)


def is_own_name(field: FieldInfo, name: str) -> bool:
    """Whether a name is one of this package's, so that what it takes is known before it is imported."""
    about = about_of(field)
    return name in about.also or name in TABLES[about.registry]


@dataclass(frozen=True)
class Key:
    """One key as `--help` shows it. `name` writes N for the index into a list: `rewards.N.weight`."""

    name: str
    field: FieldInfo
    default: Any

    @property
    def is_section(self) -> bool:
        return is_section(self.field.annotation)


@cache
def all_keys(model: type[Section]) -> tuple[Key, ...]:
    """Every key below a section, sections included, in the order of declaration."""
    return tuple(_walk(model, model.model_construct(), ""))


def find_key(model: type[Section], key: str) -> Key | None:
    """What is known of a dotted key; None below `args`, and for what is no key."""
    pattern = pattern_of(key)
    return next((entry for entry in all_keys(model) if entry.name == pattern), None)


def _walk(model: type[Section], here: Section, prefix: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        default, element = getattr(here, name, ""), element_type(field.annotation)
        plain = default.model_dump() if isinstance(default, Section) else default
        yield Key(prefix + name, field, plain)
        if isinstance(default, Section):
            yield from _walk(type(default), default, f"{prefix}{name}.")
        elif is_section(element):
            yield from _walk(element, element.model_construct(), f"{prefix}{name}.N.")


def pattern_of(key: str) -> str:
    """A dotted key with N for each index, as `Key.name` has it."""
    return re.sub(r"\.-?\d+(?=\.|$)", ".N", key)


def strip_optional(kind: Any) -> tuple[Any, bool]:
    """(the type without None, whether None is allowed)."""
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    return (members[0], True) if type(None) in typing.get_args(kind) else (kind, False)


def element_type(kind: Any) -> Any:
    """Type of a list's entries; None if `kind` is no list."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else None


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def is_mapping(kind: Any) -> bool:
    return typing.get_origin(kind) is dict


def is_text(kind: Any) -> bool:
    """Whether values are texts, whichever or out of a few."""
    inner = strip_optional(kind)[0]
    return inner is str or typing.get_origin(inner) is Literal


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The names that a field, or each of its entries, takes; empty for anything."""
    about, inner = about_of(field), strip_optional(field.annotation)[0]
    if about.registry:
        return (*about.also, *names(about.registry))
    inner = element_type(inner) or inner
    return typing.get_args(inner) if typing.get_origin(inner) is Literal else ()


def type_name(kind: Any) -> str:
    """A type in a user's words."""
    inner, optional = strip_optional(kind)
    element = element_type(inner)
    if element is not None:
        name = "list of mappings" if is_section(element) else f"list of {type_name(element)}"
    elif is_section(inner):
        name = "section"
    elif is_mapping(inner):
        name = "mapping"
    else:
        name = "text" if is_text(inner) else {int: "int", float: "float", bool: "bool"}.get(inner, "anything")
    return f"{name} or null" if optional else name


def bounds_of(field: FieldInfo) -> dict[str, float]:
    """ge, gt, le, lt -> number."""
    found = ((name, getattr(entry, name, None)) for entry in field.metadata for name in ("ge", "gt", "le", "lt"))
    return {name: value for name, value in found if value is not None}
