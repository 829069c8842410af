"""A setting is a field that says all about itself: type, default, choices, bounds, meaning, and when it counts."""

import difflib
import shlex
import typing
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field, Strict
from pydantic.fields import FieldInfo

from drift_pl.config.yaml_text import format_value
from drift_pl.core.registry import GROUPS, TABLES, names

ELSEWHERE = "their_package.module:Thing"
"""How a thing of another package is named."""
Flag = Annotated[bool, Strict(False)]
"""true or false; yes, no, on, off, 1 and 0 as well."""
Automatic = Annotated[int, BeforeValidator(lambda value: 0 if value == "auto" else value)]
"""A number, or `auto`, which is 0."""
NonNegative = Annotated[float, Field(ge=0)]
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
ABOVE_ZERO, GIVEN = "above 0", "given"
"""What `only` may wait for besides a choice: a number above 0, a value at all."""
TYPES = {int: ("int", "8"), float: ("float", "1.0"), bool: ("bool", "true"), str: ("text", "NAME")}
"""Type -> what it is called, and a value."""


class About(NamedTuple):
    """Attributes of a field besides type, default, bounds and meaning.

    Attributes:
        registry: kind of the registry whose names it takes.
        also: names that it takes besides.
        elsewhere: whether it takes `module:Thing` and entry points too.
        shapes_results: whether runs that differ in it alone have different results.
        only: (another key, its values ...) without which it has no effect; or (another key, ABOVE_ZERO or GIVEN).
        example: a value that works, where the default shows none.
    """

    registry: str = ""
    also: tuple[str, ...] = ()
    elsewhere: bool = True
    shapes_results: bool = True
    only: tuple[str, ...] = ()
    example: str = ""

    def is_own(self, name: str) -> bool:
        """Whether a name is one of this package's, so that its arguments are known before it is imported."""
        return name in self.also or name in TABLES[self.registry]

    @property
    def condition(self) -> str:
        """`only` in words: `KEY=a or b`, `KEY above 0`, `KEY given`; empty where there is none."""
        if not self.only:
            return ""
        key, *values = self.only
        return f"{key} {values[0]}" if values[0] in (ABOVE_ZERO, GIVEN) else f"{key}={' or '.join(values)}"

    def knows(self, name: str) -> bool:
        if self.is_own(name) or not self.elsewhere:
            return self.is_own(name)
        group = GROUPS.get(self.registry)
        return (":" in name and "${" not in name) or bool(group and entry_points(group=group, name=name))


def setting(default: Any, meaning: str, **facts: Any) -> Any:
    """A field with its default (`...`: required), the sentence that `--help` prints, and facts.

    Args:
        facts: those of `About`, pydantic's bounds `ge`, `gt`, `le` and `lt`, and a list's `min_length`.
    """
    bounds = {name: facts.pop(name) for name in (*BOUNDS, "min_length") if name in facts}
    extra: Any = {"about": About(**facts)}
    return Field(default, description=meaning, json_schema_extra=extra, **bounds)


def neutral(default: Any, meaning: str, **facts: Any) -> Any:
    """A setting that does not shape results."""
    return setting(default, meaning, shapes_results=False, **facts)


def about_of(field: FieldInfo) -> About:
    extra = field.json_schema_extra
    return extra.get("about", About()) if isinstance(extra, dict) else About()  # type: ignore[return-value]


@dataclass(frozen=True)
class Key:
    """A key below a section. `name` has N for the index into a list: `rewards.N.weight`."""

    name: str
    field: FieldInfo
    kind: Any
    default: Any = None

    @property
    def about(self) -> About:
        return about_of(self.field)

    @property
    def is_section(self) -> bool:
        return is_section(inner_type(self.kind))

    @property
    def is_text(self) -> bool:
        return inner_type(self.kind) is str or typing.get_origin(inner_type(self.kind)) is Literal

    @property
    def optional(self) -> bool:
        return type(None) in typing.get_args(self.kind)

    @property
    def element(self) -> Any:
        """Type of a list's entries; None for other kinds."""
        inner = inner_type(self.kind)
        return typing.get_args(inner)[0] if typing.get_origin(inner) is list else None

    @property
    def choices(self) -> tuple[str, ...]:
        """The names that the key, or each of its entries, takes; empty for anything."""
        if self.about.registry:
            return (*self.about.also, *names(self.about.registry))
        inner = inner_type(self.element or self.kind)
        return typing.get_args(inner) if typing.get_origin(inner) is Literal else ()

    @property
    def type_name(self) -> str:
        kind, null = inner_type(self.element or self.kind), " or null" if self.optional else ""
        if self.choices:
            own = [ELSEWHERE] if self.about.registry and self.about.elsewhere else []
            return f"{'list of' if self.element else 'one of'} {', '.join([*self.choices, *own])}{null}"
        if self.element:
            return f"list of {'mappings' if is_section(kind) else TYPES[kind][0]}{null}"
        return f"{TYPES.get(kind, ('mapping', ''))[0]}{null}"

    @property
    def bounds(self) -> tuple[str, ...]:
        """Each bound in words."""
        found = ((words, getattr(entry, name, None)) for entry in self.field.metadata for name, words in BOUNDS.items())
        return tuple(f"{words} {value}" for words, value in found if value is not None)

    def works(self, name: str, wrong: object = None) -> str:
        """An argument that is accepted for this key, called `name`: its own default where that shows the form.

        Args:
            wrong: what was given; a choice that is spelt like it comes first.
        """
        close = difflib.get_close_matches(wrong, self.choices, n=1, cutoff=0.7) if isinstance(wrong, str) else []
        if close and not self.element:
            return f"{name}={close[0]}"
        if self.about.example and not self.is_section:
            works = f"{name}={self.about.example}"
            return shlex.quote(works) if self.is_text and " " in works else works
        if self.is_section and self.default:
            first, value = next(iter(self.default.items()))
            return f"{name}.{first}={format_value(value)}"
        if self.default not in (None, "", [], {}):
            return f"{name}={format_value(self.default)}"
        return f"{name}={self.choices[0] if self.choices and not self.element else _sample(self.kind)}"


def _sample(kind: Any) -> str:
    inner = inner_type(kind)
    if is_section(inner):
        return f"{{name: {about_of(inner.model_fields['name']).example}}}"
    if typing.get_origin(inner) is list:
        return f"[{_sample(typing.get_args(inner)[0])}]"
    if typing.get_origin(inner) is Literal:
        return str(typing.get_args(inner)[0])
    return TYPES.get(inner, ("", "{pretrained: FOLDER}"))[1]


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def inner_type(kind: Any) -> Any:
    """A type without None and without `Annotated`."""
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    kind = members[0] if type(None) in typing.get_args(kind) else kind
    return kind.__origin__ if typing.get_origin(kind) is Annotated else kind
