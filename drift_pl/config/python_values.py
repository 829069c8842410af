"""Settings from Python: the arguments of a call as KEY=VALUE, functions and classes as `module:name`."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

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
    if not isinstance(name, str) or not isinstance(module, str):
        raise UserError(f"{thing!r} is an object without a name, so it cannot be found again: {REMEDY}")
    if "<lambda>" in name:
        raise UserError(f"a lambda has no name, so it cannot be found again: {REMEDY}")
    if "<locals>" in name:
        raise UserError(f"{name.rpartition('.')[2]} is defined within a function ({name}): {REMEDY}")
    if module == "__main__":
        raise UserError(f"{name} is defined in __main__, which other processes cannot import: {REMEDY}")
    found = getattr(sys.modules.get(module) or import_module(module), name, None)
    if found is not thing:
        raise UserError(f"{module}:{name} is not what was given, but {found!r}: {REMEDY}")
    return f"{module}:{name}"


def _named(value: Any) -> Any:
    """A setting's value with names in place of functions and classes; in a list, `f` stands for `{name: f}`."""
    if isinstance(value, list | tuple):
        return [{"name": importable_name(entry)} if callable(entry) else _named(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): importable_name(entry) if callable(entry) else _named(entry) for key, entry in value.items()}
    return importable_name(value) if callable(value) else value


def call_arguments(experiment: str, rewards: Sequence[Reward] | None, settings: Mapping[str, Any]) -> list[str]:
    """A call's arguments as KEY=VALUE; sections may be mappings, and keys dotted.

    Raises:
        UserError: something in them cannot be found again by its name.
    """
    given = {**settings} if rewards is None else {"rewards": [_entry(reward) for reward in rewards], **settings}
    return [f"experiment={experiment}", *(f"{key}={_text(value)}" for key, value in _leaves(given))]


def _entry(reward: Reward) -> Any:
    return {"name": reward} if isinstance(reward, str) else reward


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys; `args`, and what is not a section, stay whole."""
    for name, value in values.items():
        key = f"{above}{name}"
        found = Config.find_key(key)
        if isinstance(value, Mapping) and found is not None and found.is_section:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, _named(value)


def _text(value: Any) -> str:
    """As YAML on one line, which JSON is; a text in quotes, so that it is taken as it stands."""
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
