"""Texts from a language model behind an OpenAI-compatible chat API: expansions of prompts, for the prompting lever."""

import re
from collections.abc import Sequence
from typing import Any, Protocol

from drift_pl.core.errors import UserError
from drift_pl.core.signatures import Count, Positive
from drift_pl.core.texts import is_plain, stripped
from drift_pl.scoring.chat import chat_url, message_text, without_thoughts
from drift_pl.scoring.http_client import JsonClient

SECTION = "incentive.prompting.writers.args"
LINES = '{"choices": [{"message": {"content": "one text a line"}}]}'
LONGEST = 400
"""Characters of a text; text encoders cut prompts long before."""
TEMPLATE = (
    "Write {count} different descriptions of images that all show: {prompt}. Each keeps everything that this says, and "
    "names what it leaves open, such as style, composition, light, setting, colours or pose, each time in another way. "
    "One short sentence a line, without numbers, quotes or comments."
)
BULLET = re.compile(r"^(?:[-*\u2022]|\(?\d{1,3}[.):])\s+")


class Writer(Protocol):
    """Whatever writes expansions; a plain function does."""

    def __call__(self, prompts: Sequence[str], count: int) -> list[list[str]]:
        """For each prompt about `count` texts that name what it leaves open; those that are unfit are left out."""
        ...


class ChatWriter:
    """A language model. One request per prompt; the lines of its answer are the texts.

    Args:
        url: base url of the server, such as http://127.0.0.1:8000/v1 (vLLM, SGLang, Ollama, or a service).
        model: the model's name there.
        template: the request; {prompt} and {count} are replaced.
        temperature: of the answer's sampling.
        max_tokens: maximum length of an answer; increase it for reasoning models (text within <think> is ignored).
        extra: additional fields of the request, such as {seed: 0}.
        token_env, concurrency, attempts, first_wait_s, timeout_s, deadline_s: as in `HttpJudge`; the deadline is for 32
            prompts.

    Raises:
        UserError: as `HttpJudge`; or the template lacks {prompt} or {count}; when called, an answer has no usable text.
    """

    def __init__(
        self,
        url: str,
        model: str,
        template: str = TEMPLATE,
        temperature: float = 1.0,
        max_tokens: Count = 4096,
        extra: dict[str, Any] | None = None,
        token_env: str | None = None,
        concurrency: Count = 8,
        attempts: Count = 5,
        first_wait_s: float = 0.5,
        timeout_s: Positive = 120.0,
        deadline_s: Positive = 1800.0,
    ) -> None:
        for place in ("{prompt}", "{count}"):
            if place not in template:
                raise UserError(
                    f"{SECTION}.template lacks {place}: write where it goes, e.g. '{{count}} scenes with {{prompt}}'"
                )
        self.client = JsonClient(
            chat_url(url),
            *(token_env, concurrency, attempts, first_wait_s, timeout_s, deadline_s),
            expected=LINES,
            setting=SECTION,
        )
        self.model, self.template = model, template
        self.fields = {"max_tokens": max_tokens, "temperature": temperature, **(extra or {})}

    def __call__(self, prompts: Sequence[str], count: int) -> list[list[str]]:
        """See `Writer`."""

        def body(prompt: str) -> dict[str, Any]:
            asked = self.template.replace("{count}", str(count)).replace("{prompt}", prompt)
            return {"model": self.model, "messages": [{"role": "user", "content": asked}], **self.fields}

        answers = self.client.post_all(body, list(prompts))
        return [self._texts(answer, prompt) for answer, prompt in zip(answers, prompts, strict=True)]

    def _texts(self, answer: Any, prompt: str) -> list[str]:
        texts = texts_of(message_text(self.client, answer))
        if not texts:
            raise self.client.unexpected(answer, f"no text of 1 to {LONGEST} characters for {prompt!r}: ")
        return texts


def texts_of(answer: str) -> list[str]:
    """The lines of an answer that are texts, without bullets, numbers and quotes; headings and fences are none."""
    lines = (BULLET.sub("", stripped(line)) for line in without_thoughts(answer).split("\n"))
    texts = (stripped(line.strip('"\u201c\u201d')) for line in lines)
    return [text for text in texts if is_text(text)]


def is_text(text: str) -> bool:
    """Whether a line may be conditioned on."""
    return 0 < len(text) <= LONGEST and is_plain(text) and not text.endswith(":") and not text.startswith("```")
