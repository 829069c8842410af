"""What is told of a failure of a server: the start of its answer without the token, and how long it asks to wait."""

import datetime
import email.utils
import html
import math
import re
import urllib.parse

SHOWN = 120
"""Characters of a text of a server's that messages show."""
SEARCHED = 2**16
"""Characters in which a token is looked for: far more than are shown, since one that is cut must be found as well."""
LONGEST_ASKED_S = 1e9
"""A longer wait is as good as this one, 32 years."""
ESCAPED = re.compile(r"\\+(?:u00|x)([0-9a-fA-F]{2})")
"""An ASCII character as JSON and Python may write it."""
UNPLAIN = re.compile(r"[^!-~]|\\")
"""What may stand between a token's characters: spaces, zeros of UTF-16, and the backslashes of `\\/` and `\\"`."""


class Transient(Exception):
    """A failure that is worth a retry.

    Attributes:
        said: what the server answered, for messages; empty if it did not.
        wait_s: wait requested by the server, seconds.
    """

    def __init__(self, reason: str, said: str = "", wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.said, self.wait_s = said, wait_s


def start_of(text: str, token: str | None) -> str:
    """The start of a text of a server's, in quotes and on one line. A token in it is masked, and where it holds the
    token with escapes, nothing of it is shown.
    """
    text = " ".join(text.split())
    if token:
        text = text.replace(token, "***")
        if _holds(text[:SEARCHED], token):
            return "a text that repeats the token (not shown)"
    return repr(text[:SHOWN])


def _holds(text: str, token: str) -> bool:
    """Whether a text holds a token as it is, or escaped for JSON, HTML or addresses, up to three times over."""
    wanted = UNPLAIN.sub("", token)
    for unescape in (_without_escapes, html.unescape, urllib.parse.unquote) * 3:
        if wanted in UNPLAIN.sub("", text):  # before each, since a token may itself look like an escape
            return True
        text = unescape(text)
    return wanted in UNPLAIN.sub("", text)


def _without_escapes(text: str) -> str:
    return ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def seconds_asked(retry_after: str | None) -> float:
    """Seconds of a Retry-After header, digits or a date (RFC 9110, section 10.2.3); 0 for anything else."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_ASKED_S)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    if date.tzinfo is None:  # its oldest form names no zone: it is GMT
        date = date.replace(tzinfo=datetime.UTC)
    left = date - datetime.datetime.now(datetime.UTC)
    return min(max(0.0, math.ceil(left.total_seconds())), LONGEST_ASKED_S)
