"""The address of a server and the token for it, as settings name them; checked before anything is sent or shown."""

import ipaddress
import os
import re
from urllib.parse import SplitResult, urlsplit

from drift_pl.core.errors import UserError

LABEL = re.compile(r"(?!-)[\w\x80-\U0010ffff-]+(?<!-)", re.ASCII)
"""What stands between the dots of a host's name; underscores are common in containers' names."""
IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")


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
        UserError: it is none, or holds a user name or password; the message does not show it. Or its host is no name
            or IP address that can exist.
    """
    try:
        split = urlsplit(url)  # drops tabs, line ends and leading spaces, which a client does not
        known = url.lower().startswith(("http://", "https://")) and url.isprintable()
        known = known and bool(split.hostname) and split.port != 0
    except (ValueError, AttributeError):  # half an IPv6 address, a port that is no number, no text
        known = False
    if not known:
        raise UserError(f"{setting}.url is not a url; give one such as http://127.0.0.1:8001/score")
    if split.username is not None or split.password is not None:
        raise UserError(
            f"{setting}.url contains a user name or password, which a run's files would keep; pass a token by "
            f"{setting}.token_env=NAME_OF_AN_ENVIRONMENT_VARIABLE"
        )
    host = str(split.hostname)
    if not _is_host(host):
        raise UserError(
            f"{setting}.url names the host {host[:80]!r}, which is no host name or IP address; give one such as "
            "http://127.0.0.1:8001/score"
        )
    return split


def _is_host(host: str) -> bool:
    """Whether a name could be looked up, or an address connected to."""
    try:
        if ":" in host or IPV4.fullmatch(host):
            ipaddress.ip_address(host)
            return True
        host.encode("idna")  # as a look-up does; it limits the lengths
    except ValueError:
        return False
    return all(LABEL.fullmatch(label) for label in host.removesuffix(".").split("."))


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
