"""From a name in a config to an object: a visible table, then `package.module:Thing`, then entry points."""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from drift_pl.core.errors import UserError


def create(key: str, name: str, args: Mapping[str, Any], table: Mapping[str, Any], group: str) -> Any:
    """Calls the thing of that name with `args`.

    Args:
        key: the config key, to be named in errors, e.g. `rewards.0`.
        name: a name in `table`, `package.module:Thing`, or a name that an installed package offers.
        args: keyword arguments, checked against the thing's signature before it is called.
        table: what this package offers.
        group: entry point group of other packages, e.g. `drift_pl.rewards`.

    Raises:
        UserError: unknown name, or arguments that the thing does not take or lacks.
    """
    thing = find(key, name, table, group)
    check_arguments(key, name, thing, args)
    return thing(**args)


def find(key: str, name: str, table: Mapping[str, Any], group: str) -> Any:
    """The class or function of that name.

    Raises:
        UserError: there is none; the message lists those that there are.
    """
    if name in table:
        return table[name]
    if ":" in name:
        return _import(key, name)
    offered = {entry.name: entry for entry in entry_points(group=group)}
    if name in offered:
        return offered[name].load()
    known = [*table, *offered]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "or name your own, their_package.module:Thing"
    raise UserError(f"{key}.name={name!r} is unknown: there are {', '.join(known) or 'none built in'}; {hint}")


def check_arguments(key: str, name: str, thing: Any, args: Mapping[str, Any]) -> None:
    """Refuses arguments that a callable does not take, and missing ones.

    Raises:
        UserError: one line that names the argument and those that exist.
    """
    try:
        signature = inspect.signature(thing)
    except ValueError:  # some built-in classes have none; calling them will tell
        return
    try:
        signature.bind(**args)
    except TypeError as error:
        takes = ", ".join(str(parameter) for parameter in signature.parameters.values()) or "none"
        raise UserError(f"{key}.args: {error} for {name!r}; its arguments are: {takes}") from error


def _import(key: str, name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        thing = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{key}.name={name!r} cannot be imported: {error}") from error
    if not callable(thing):
        raise UserError(f"{key}.name={name!r} is not a class or a function")
    return thing
