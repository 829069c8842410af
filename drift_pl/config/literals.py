"""Values as a user writes them, in an argument or a file, in the type that their key has. No torch."""

import re
from dataclasses import fields, is_dataclass
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from drift_pl.config.keys import (
    element_type,
    format_value,
    hints,
    is_mapping_type,
    resolve_type,
    strip_optional,
    type_name,
    working_example,
)
from drift_pl.core.errors import UserError

YES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
NULLS = ("null", "none", "~", "")


class Loader(get_yaml_loader()):  # type: ignore[misc]
    """OmegaConf's loader (1e-4 is a number, no duplicate keys) with the booleans and integers of YAML 1.2.

    In YAML 1.1 `no` is False, `010` is 8 and `1:30` is 90: none of them is what a user of this program means.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":int"))]
        for first, resolvers in get_yaml_loader().yaml_implicit_resolvers.items()
    }


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+(?:_[0-9]+)*$"), list("-+0123456789"))
Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def load_yaml(text: str) -> Any:
    """Plain value of a YAML text.

    Raises:
        yaml.YAMLError: not YAML.
    """
    return yaml.load(text, Loader)  # a SafeLoader underneath


def parse_override(key: str, text: str) -> Any:
    """The value of `key=text`, in the key's own type. Text is taken as it stands, unless it is quoted.

    Raises:
        UserError: unknown key, or a value that does not fit it.
    """
    inner, optional = strip_optional(resolve_type(key))
    if inner is str and text[:1] not in ("'", '"'):
        return None if optional and text.lower() in NULLS else text
    try:
        value = load_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or str(error)
        raise UserError(f"{key}={text}: not a YAML value ({reason}); {_remedy(key)}") from error
    return coerce(key, value, shown=text)


def coerce(key: str, value: Any, shown: str | None = None) -> Any:
    """A plain value in the type of its key. Mappings are checked key by key.

    Raises:
        UserError: unknown key below it, or the wrong type.
    """
    kind = resolve_type(key)
    return _fit(key, value, kind, format_value(value) if shown is None else shown)


def _fit(key: str, value: Any, kind: Any, shown: str) -> Any:
    inner, optional = strip_optional(kind)
    element = element_type(inner)
    if isinstance(value, str) and "${" in value:
        return value  # an interpolation: OmegaConf resolves it, and checks what comes out
    if value is None and optional:
        return None
    if is_dataclass(inner):
        return _fit_section(key, value, inner, shown)
    if element is not None and isinstance(value, list):
        return [_fit(f"{key}.{index}", entry, element, format_value(entry)) for index, entry in enumerate(value)]
    if is_mapping_type(inner) and isinstance(value, dict):
        return {str(name): entry for name, entry in value.items()}
    if kind is Any:
        return value
    if inner is bool:
        value = _as_bool(value)
    if inner is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if inner in (bool, int, float, str) and type(value) is inner:
        return value
    if inner is float and str(value).lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return float(value)  # refused with every other number that is not finite, once the whole config is known
    raise UserError(f"{key}={shown} has the wrong type: expected {type_name(kind)}; {_remedy(key)}")


def _fit_section(key: str, value: Any, kind: Any, shown: str) -> dict[str, Any]:
    if value is None:
        return {}  # a section of a file whose lines are all commented out
    if not isinstance(value, dict):
        form = f"keys, e.g. {{name: {value}}}" if "name" in hints(kind) else "a section of keys"
        raise UserError(f"{key}={shown} has the wrong type: expected {form}; {_remedy(key)}")
    # `name` first: another name drops the arguments that belonged to the old one
    order = sorted(value, key=lambda name: name != "name") if "name" in {f.name for f in fields(kind)} else value
    return {str(name): coerce(f"{key}.{name}", value[name]) for name in order}


def _as_bool(value: Any) -> Any:
    if isinstance(value, str):
        return YES.get(value.lower(), value)
    return bool(value) if isinstance(value, int) and value in (0, 1) else value


def _remedy(key: str) -> str:
    return f"use e.g. {working_example(key, resolve_type(key))}"
