"""The address of a server and the token for it, as settings name them; checked before anything is sent or shown."""

import os
import re
from urllib.parse import SplitResult, urlsplit

from drift_pl.core.errors import UserError


def without_queries(text: str) -> str:
    """A text in which addresses end at their question mark, where keys often follow, and name no user: for whatever
    is shown or shared."""
    text = re.sub(r"(\w+://[^\s?#'\"]*)[?#][^\s'\"\]}]*", r"\1?...", text)
    return re.sub(r"(\w+://)[^\s/@'\"]+@", r"\1", text)


def check_url(url: str, setting: str = "rewards.args") -> SplitResult:
    """The parts of an http or https address.

    Args:
        setting: the section that it stands in, for messages.

    Raises:
        UserError: it is none, or holds a user name or password; the message does not show it.
    """
    try:
        split = urlsplit(url)
        known = split.scheme in ("http", "https") and bool(split.hostname) and split.port != 0
    except (ValueError, AttributeError):  # half an IPv6 address, a port that is no number, no text
        known = False
    if not known:
        raise UserError(f"{setting}.url is not a url; give one such as http://127.0.0.1:8001/score")
    if split.username is not None or split.password is not None:
        raise UserError(
            f"{setting}.url contains a user name or password, which a run's files would keep; pass a token by "
            f"{setting}.token_env=NAME_OF_AN_ENVIRONMENT_VARIABLE"
        )
    return split


def read_token(variable: str | None, setting: str = "rewards.args") -> str | None:
    """The content of an environment variable; None for none.

    Args:
        setting: the section that it stands in, for messages.

    Raises:
        UserError: it is not set, or cannot be a header.
    """
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        raise UserError(
            f"{setting}.token_env={variable}: this environment variable is not set; "
            f"export {variable}=... before the run"
        )
    if not token.isascii() or not token.isprintable():
        raise UserError(f"{setting}.token_env={variable}: its content is not one line of ASCII characters")
    return token
