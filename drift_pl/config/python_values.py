"""Settings from Python: the arguments of a call as KEY=VALUE, functions and classes as `module:name`."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from importlib import import_module
from typing import Any

from drift_pl.config.fields import Key
from drift_pl.config.schema import Config
from drift_pl.config.section import pattern_of
from drift_pl.core.errors import UserError, named, naming

Reward = str | Callable[..., Any] | Mapping[str, Any]
"""A registered name, a function or a class of a module, or `{"name": ..., "args": ..., "weight": ...}`."""

REMEDY = "put a function or a class at the top of a module, e.g. my_rewards.py, and give that"


def importable_name(thing: Callable[..., Any]) -> str:
    """`module:name` of a function or a class.

    Raises:
        UserError: another process could not import it: a lambda, a function within a function, an object, or something
            of `__main__`.
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    where = f"{named()}: " if named() else ""
    if not isinstance(name, str) or not isinstance(module, str):
        what = f"{named() or 'this'} is an object without a name (of type {type(thing).__name__})"
        raise UserError(f"{what}, so it cannot be found again: {REMEDY}")
    if "<lambda>" in name:
        raise UserError(f"{where}a lambda has no name, so it cannot be found again: {REMEDY}")
    if "<locals>" in name:
        raise UserError(f"{where}{name.rpartition('.')[2]} is defined within a function ({name}): {REMEDY}")
    if module == "__main__":
        raise UserError(f"{where}{name} is defined in __main__, which other processes cannot import: {REMEDY}")
    found = getattr(sys.modules.get(module) or import_module(module), name, None)
    if found is not thing:
        raise UserError(f"{where}{module}:{name} is not what was given, but {found!r}: {REMEDY}")
    return f"{module}:{name}"


def call_arguments(experiment: str, rewards: Sequence[Reward] | None, settings: Mapping[str, Any]) -> list[str]:
    """A call's arguments as KEY=VALUE; sections may be mappings, and keys dotted.

    Values are YAML on one line, which JSON is; a text is in quotes, so that it is taken as it stands.

    Raises:
        UserError: something in them cannot be found again by its name, or is no value of a setting.
    """
    given = {**settings} if rewards is None else {"rewards": _entries(rewards), **settings}
    leaves = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in _leaves(given))
    return [f"experiment={experiment}", *leaves]


def _entries(rewards: Any) -> list[Any]:
    """A list of rewards as entries of the setting `rewards`: names become mappings, everything else stays as it is.

    Raises:
        UserError: it is one reward in place of a list of them, or no reward at all.
    """
    if not isinstance(rewards, list | tuple | Iterator):
        works = f"rewards=[{getattr(rewards, '__name__', 'my_rewards.redness')}]"
        if isinstance(rewards, str | Mapping):
            works = f"rewards=[{rewards!r}]" if isinstance(rewards, str) else 'rewards=[{"name": ...}]'
        raise UserError(f"rewards is of type {type(rewards).__name__}, and should be a list: give e.g. {works}")
    return [{"name": reward} if isinstance(reward, str) else reward for reward in rewards]


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys; `args`, and what is not a section, stay whole."""
    for name, value in values.items():
        key = f"{above}{name}"
        found = Config.find_key(key)
        if isinstance(value, Mapping) and found is not None and found.is_section:
            yield from _leaves(value, f"{key}.")
        else:
            with naming(key):
                plain = _plain(value)
            yield key, plain


def _plain(value: Any) -> Any:
    """A setting's value as JSON has it: names of functions and classes, texts of paths, numbers of numpy's and torch's.

    In a list, `f` stands for `{name: f}`.

    Raises:
        UserError: something in it cannot be recorded with a run.
    """
    if isinstance(value, list | tuple):
        entries = ({"name": each} if callable(each) else each for each in value)
        return [_within(number, each) for number, each in enumerate(entries)]
    if isinstance(value, Mapping):
        return {str(key): _within(key, each) for key, each in value.items()}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    if callable(value):
        return importable_name(value)
    raise UserError(f"{named()} is of type {type(value).__name__}, which a run cannot record: {_instead(value)}")


def _within(part: object, value: Any) -> Any:
    with naming(f".{part}"):
        return _plain(value)


def _instead(value: Any) -> str:
    """What a user may give in place of an object."""
    key = named()
    found = _setting(key)
    if key.endswith(".name") or _setting(f"{key}.name"):
        return f'give its class and the arguments of that, {{"name": {type(value).__name__}, "args": {{...}}}}'
    if isinstance(value, Set):
        return "it has no order: give a list, e.g. sorted(...)"
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return f"give a list, e.g. {'its tolist()' if hasattr(value, 'tolist') else 'list(...)'}"
    if found:
        return f"use e.g. {found.works(key)}"
    return "give a text, a number, True, False or None, or a list or mapping of these"


def _setting(key: str) -> Key | None:
    """A setting itself; None for what is within its mapping."""
    found = Config.find_key(key)
    return found if found and found.name == pattern_of(key) else None
