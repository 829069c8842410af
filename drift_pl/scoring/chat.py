"""The shape of an OpenAI-compatible chat API: its address, and the text of an answer."""

import re
from typing import Any

from drift_pl.scoring.http_client import JsonClient

PATH = "/chat/completions"


def chat_url(url: str) -> str:
    """Where to POST, of a server's base url or of that address itself; a query stays."""
    base, mark, query = url.partition("?")
    base = base.rstrip("/")
    return base + ("" if base.endswith(PATH) else PATH) + mark + query


def message_text(client: JsonClient, answer: Any) -> str:
    """The text of an answer; empty where a model has said nothing.

    Raises:
        UserError: the answer is of another shape.
    """
    try:
        text = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise client.unexpected(answer) from None
    if not isinstance(text, str | None):
        raise client.unexpected(answer)
    return text or ""


def without_thoughts(text: str) -> str:
    """A text without what a reasoning model wrote within <think>."""
    return re.sub(r"<think>.*?(</think>|$)", " ", text, flags=re.DOTALL)
