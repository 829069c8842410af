"""What a run writes down of its settings: environment variables stay the names that they were written as.

`config.yaml` holds `${oc.env:NAME}` as the user wrote it. Checkpoints, records and model cards are made from
`Config.published`, in which these texts stand as well: a token or an address with a key is in none of these files.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc
from pydantic import ValidationError

from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.servers import without_queries

_NAMES_ONLY: ContextVar[bool] = ContextVar("names_only", default=False)


def _environment(name: str, *default: Any) -> Any:
    return f"${{oc.env:{name}}}" if _NAMES_ONLY.get() else oc.env(name, *default)


OmegaConf.register_new_resolver("oc.env", _environment, replace=True)


def published(config: Config, plain: Any, named: Any) -> Config:
    """A config as it is written down.

    Args:
        plain: the settings that it was made from.
        named: the same by `with_names`.

    Raises:
        UserError: a url holds what may be a key, or a mapping or a list with texts is an environment variable's.
    """
    _refuse_whole(plain, named)
    found = _as_written(plain, named)
    _refuse_queries(found)
    while found != plain:
        try:
            return Config.model_validate(found)
        except ValidationError as error:  # a number or a choice: no secret
            found = _with_value(found, plain, error.errors()[0]["loc"])
    return config


def with_names(tree: Any) -> Any:
    """Plain settings, resolved but for environment variables: these are named, `${oc.env:NAME}`."""
    with _names_only():
        return OmegaConf.to_container(OmegaConf.create(tree), resolve=True)


@contextmanager
def _names_only() -> Iterator[None]:
    token = _NAMES_ONLY.set(True)
    try:
        yield
    finally:
        _NAMES_ONLY.reset(token)


def _as_written(plain: Any, named: Any) -> Any:
    """`plain` with the texts of `named`, which came from an environment variable where the two differ."""
    if isinstance(plain, dict) and isinstance(named, dict) and plain.keys() == named.keys():
        return {key: _as_written(value, named[key]) for key, value in plain.items()}
    if isinstance(plain, list) and isinstance(named, list) and len(plain) == len(named):
        return [_as_written(*pair) for pair in zip(plain, named, strict=True)]
    return named if isinstance(plain, str) and isinstance(named, str) else plain


def _refuse_whole(plain: Any, named: Any, key: str = "") -> None:
    """Of several values that one environment variable holds, none could stay a name.

    Raises:
        UserError: there are texts among them.
    """
    if isinstance(plain, (dict, list)) and not isinstance(named, type(plain)):
        if _has_text(plain):
            raise UserError(
                f"{key}={named}: the run's files would keep what the environment variable holds; write {key} out, and "
                "give each value that is a secret as '${oc.env:NAME}'"
            )
    elif isinstance(plain, dict):
        for name, value in plain.items():
            _refuse_whole(value, named.get(name), f"{key}.{name}" if key else str(name))
    elif isinstance(plain, list):
        for number, pair in enumerate(zip(plain, named, strict=False)):
            _refuse_whole(*pair, f"{key}.{number}")


def _has_text(node: Any) -> bool:
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return isinstance(node, str) or any(map(_has_text, below))


def _with_value(found: Any, plain: Any, place: tuple[Any, ...]) -> Any:
    """`found` with the value of `plain` at a place."""
    if not place or type(found) is not type(plain) or not isinstance(found, (dict, list)):
        return plain
    copy = found.copy()
    copy[place[0]] = _with_value(found[place[0]], plain[place[0]], place[1:])
    return copy


def _key_in(value: str, is_url: bool) -> str:
    """What of a value that is an address may be a key; empty for none, and for texts with addresses in them."""
    if not is_url and not re.fullmatch(r"\w+://\S+", value):
        return ""
    if "?" in value.replace("${", ""):
        return "what follows the question mark"
    user = re.match(r"\w+://[^\s/@$]+@", value) and not is_url  # a `url` with one has a remedy of its own
    return "the user name and password" if user else ""


def _refuse_queries(node: Any, key: str = "") -> None:
    """What follows the question mark of an address is often a key, and a run's files are shared.

    Args:
        node: plain settings, unresolved.

    Raises:
        UserError: an address among them has a query, or a user name.
    """
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        where = f"{key}.{name}" if key else str(name)
        if isinstance(value, str) and (keeps := _key_in(value, name == "url")):
            shown = f"{value.partition('?')[0]}?..." if "?" in value else value
            raise UserError(
                f"{where}={without_queries(shown)}: the run's files would keep {keeps}; "
                f"put the whole url into an environment variable and give {where}='${{oc.env:NAME}}'"
            )
        _refuse_queries(value, where)
