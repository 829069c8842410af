"""YAML 1.2 text to plain values and back: files and the values of arguments are read alike. No torch."""

import math
import re
from typing import Any

import yaml
from pydantic import BaseModel

from drift_pl.core.texts import is_plain

MOST_NODES = 100_000
"""Values of a text with its aliases written out; a few lines of aliases can stand for billions."""
MOST_LEVELS = 64
RULES = {
    "bool": ("^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": ("^[-+]?[0-9]+(?:_[0-9]+)*$", "-+0123456789"),
    "float": (
        r"^(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*\.[0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
}


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2, no key twice, and aliases that end.

    In YAML 1.1 `no` is False, `010` is 8, `1:30` is 90 and `1e-4` is text: none of them is what a user means.
    """

    yaml_implicit_resolvers = {
        first: [rule for rule in rules if rule[0].rpartition(":")[2] not in (*RULES, "timestamp")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):  # what YAML calls a complex key; refused below
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"found duplicate key {key.value}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_scalar(self, node: Any) -> Any:
        text = super().construct_scalar(node)
        if isinstance(text, str) and not is_plain(text):
            raise yaml.constructor.ConstructorError(None, None, "found half of a character, or NUL", node.start_mark)
        return text

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        _measure(node, {})
        return node


def _finite(loader: Loader, node: Any) -> float:
    value: float = yaml.SafeLoader.construct_yaml_float(loader, node)
    if not math.isfinite(value):
        raise yaml.constructor.ConstructorError(None, None, f"{value} is not a finite number", node.start_mark)
    return value


for _name, (_pattern, _first) in RULES.items():
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), list(_first))
Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))
Loader.add_constructor("tag:yaml.org,2002:float", _finite)


def _measure(node: Any, known: dict[int, tuple[float, int]]) -> tuple[float, int]:
    """Number of nodes, and levels, with all aliases written out; an alias within what it stands for has no end."""
    if id(node) not in known:
        known[id(node)] = (math.inf, 0)  # as long as it is being counted
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [part for entry in below for part in (entry if isinstance(entry, tuple) else (entry,))]
        sizes, heights = zip(*(_measure(part, known) for part in parts), strict=True) if parts else ((), ())
        known[id(node)] = (1 + sum(sizes), 1 + max(heights, default=0))
    size, height = known[id(node)]
    if size > MOST_NODES:
        raise yaml.composer.ComposerError(None, None, "its aliases stand for too much", node.start_mark)
    if height > MOST_LEVELS:
        raise yaml.composer.ComposerError(None, None, f"it has more than {MOST_LEVELS} levels", node.start_mark)
    return size, height


def load_yaml(text: str) -> Any:
    """Plain value of a YAML text.

    Raises:
        ValueError: not YAML; one line, with the number of the line if there are several.
    """
    try:
        return yaml.load(text, Loader)  # a SafeLoader underneath
    except (LookupError, AttributeError, TypeError) as error:  # PyYAML, of a tag whose text is none, e.g. !!bool abc
        raise ValueError("a tag, !!..., does not fit its value: leave it out") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        if isinstance(error, RecursionError):
            reason = f"it has more than {MOST_LEVELS} levels"
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"line {mark.line + 1}: {reason}" if mark and "\n" in text else reason) from error


def format_value(value: Any) -> str:
    """A plain value as one types it after `KEY=`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(format_value(entry) for entry in value) + "]"
    if isinstance(value, BaseModel):
        return format_value(value.model_dump(exclude_defaults=True))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {format_value(entry)}" for name, entry in value.items()) + "}"
    return str(value)
