"""Keyword arguments of things that a setting names: those settings that their signatures name."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from drift_pl.config.processes import is_first_launched
from drift_pl.config.section import Section
from drift_pl.core.errors import naming
from drift_pl.core.registry import find, names
from drift_pl.core.signatures import check_signature, signature_of

ACT_ANYWAY = frozenset({"advantage_clip", "micro_batch"})
"""Keys of `objective` that updates take, and that act on advantages and in the rollout, too."""


def parameters_of(thing: Callable[..., Any]) -> set[str]:
    """Parameters that can be given by name."""
    parameters = inspect.signature(thing).parameters.values()
    return {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}


def takes_first(thing: Callable[..., Any]) -> bool:
    """Whether it requires an argument that may be given by its place."""
    parameters = inspect.signature(thing).parameters.values()
    return any(
        each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        for each in parameters
    )


def named_by(thing: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that a signature names."""
    return {name: value for name, value in settings.items() if name in parameters_of(thing)}


def arguments(
    kind: str, setting: str, thing: Callable[..., Any], section: Section, others: Mapping[str, Any]
) -> dict[str, Any]:
    """The keys of a section that a thing's signature names, and the section's `args`.

    Warns of keys that a thing from elsewhere does not take.

    Args:
        kind: of the registry.
        setting: the one that names the thing, in `section`.
        others: further values that the thing may name.

    Raises:
        UserError: it does not take these arguments, or requires others.
    """
    place, _, chooser = setting.partition(".")
    settings, name = dict(section), getattr(section, chooser)
    plain = {key: value for key, value in settings.items() if not isinstance(value, Section | dict)}
    own, args = named_by(thing, {**plain, **others}), settings.get("args", {})
    with naming(place):
        check_signature(name, signature_of(thing), args, own)
    if name not in names(kind) and is_first_launched():
        known = set().union(*(parameters_of(find(kind, own)) for own in names(kind)))
        known -= parameters_of(thing) | ACT_ANYWAY
        fields = type(section).model_fields
        unused = [f"{place}.{key}" for key in plain if key in known and plain[key] != fields[key].default]
        if unused:
            warnings.warn(f"without effect: {', '.join(unused)} (not taken by {setting}={name})", stacklevel=1)
    return {**own, **args}
