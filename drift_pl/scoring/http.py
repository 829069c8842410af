"""Rewards over HTTP: any JSON server, and vision-language models behind an OpenAI-compatible chat API."""

import base64
import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drift_pl.core.errors import UserError, naming
from drift_pl.core.prompt_files import read_metadata
from drift_pl.core.signatures import Count, Positive
from drift_pl.scoring.chat import chat_url, message_text, without_thoughts
from drift_pl.scoring.http_client import JsonClient
from drift_pl.scoring.pixels import png, to_bytes

SCORES = '{"scores": [one number or null for each image]}'
LARGEST_SCORE = torch.finfo(torch.float32).max
CHOICES = '{"choices": [{"message": {"content": "a number"}}]}'
TEMPLATE = (
    'How well does this image show "{prompt}", and how good does it look? '
    "Answer with one number from {lowest} (worst) to {highest} (best), and nothing else."
)


class HttpJudge:
    """A server's scores / normaliser: POST {"images": [base64 PNG], "prompts": [text]}, answered {"scores": [number]}.

    A score of null (or NaN) means that the image could not be scored; it is then dropped from its group. The protocol,
    and a server to start from: docs/http_judge.md and `python -m drift_pl.scoring.example_server`.

    Args:
        url: where to POST, such as http://127.0.0.1:8001/score.
        token_env: name of an environment variable with a bearer token; the token itself is never stored.
        batch_size: images per request.
        normaliser: divisor of the scores.
        concurrency: number of concurrent requests. The order of the scores does not depend on it.
        attempts: maximum attempts per request; retried if the connection fails or the server answers 408, 425, 429,
            500, 502, 503 or 504.
        first_wait_s: seconds before the second attempt; doubled before each further one.
        timeout_s: seconds of server inactivity after which an attempt fails.
        deadline_s: seconds for all images of one call.
        metadata: prompt lists in JSON lines, `prompts.train` and the others. Requests then also have "metadata": for
            each image the other fields of its prompt's line, or null for a prompt that is in none of the lists.

    Raises:
        UserError: the url is invalid, or the environment variable is not set; when called, the server cannot be
            reached, is too slow, or returns an unexpected response.
    """

    def __init__(
        self,
        url: str,
        token_env: str | None = None,
        batch_size: Count = 16,
        normaliser: Positive = 1.0,
        concurrency: Count = 4,
        attempts: Count = 5,
        first_wait_s: float = 0.5,
        timeout_s: Positive = 120.0,
        deadline_s: Positive = 600.0,
        metadata: Sequence[str] = (),
    ) -> None:
        names = [metadata] if isinstance(metadata, str) else metadata
        with naming(".args.metadata"):
            self.metadata = read_metadata(names) if names else None
        self.client = JsonClient(
            url, token_env, concurrency, attempts, first_wait_s, timeout_s, deadline_s, expected=SCORES
        )
        self.deadline_s = deadline_s
        self.batch_size = self.images_per_request = batch_size
        self.normaliser = normaliser

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        pixels = to_bytes(images_B3HW).cpu()
        starts = range(0, len(prompts), self.batch_size)
        parts = [
            (pixels[start : start + self.batch_size], prompts[start : start + self.batch_size]) for start in starts
        ]
        answers = self.client.post_all(self._body, parts)
        scores = [
            score
            for answer, (_, texts) in zip(answers, parts, strict=True)
            for score in self._scores(answer, len(texts))
        ]
        return torch.tensor(scores, dtype=torch.float32, device=images_B3HW.device) / self.normaliser

    def to(self, device: torch.device | str) -> "HttpJudge":
        return self

    def _body(self, part: tuple[Tensor, Sequence[str]]) -> dict[str, Any]:
        pixels_B3HW, prompts = part
        body = {"images": [png_base64(image) for image in pixels_B3HW], "prompts": list(prompts)}
        return body if self.metadata is None else {**body, "metadata": [self.metadata.get(text) for text in prompts]}

    def _scores(self, answer: Any, count: int) -> list[float]:
        scores = answer.get("scores") if isinstance(answer, dict) else None
        if not isinstance(scores, list):
            raise self.client.unexpected(answer)
        if len(scores) != count:
            raise self.client.unexpected(answer, f"{len(scores)} scores for {count} images: ")
        return [self._number(score) for score in scores]

    def _number(self, score: Any) -> float:
        if score is None:
            return math.nan
        if not isinstance(score, int | float) or isinstance(score, bool):
            raise self.client.unexpected(score, "the score ")
        if abs(score) > LARGEST_SCORE:  # it would become infinite, which counts as unscored; NaN is not larger
            raise self.client.unexpected(score, f"a number beyond {LARGEST_SCORE:.4e}, the score ")
        return float(score)


class ChatJudge:
    """Score given by a vision-language model behind an OpenAI-compatible server, / normaliser.

    One request per image: the image, then a question that contains the prompt. An answer without exactly one number
    (`7/10` counts as 7), or with a number out of range, leaves the image unscored. With `after` an answer may be long:
    the number that follows these words counts.

    Args:
        url: base url of the server, such as http://127.0.0.1:8000/v1 (vLLM, SGLang, or a service).
        model: the model's name there.
        template: the question; {prompt}, {lowest} and {highest} are replaced.
        lowest: worst score on the scale.
        highest: best score on the scale.
        normaliser: divisor of the number; 10 gives scores from 0 to 1. (flow_grpo uses 1 to 5, divided by 5.)
        max_tokens: maximum length of the answer; increase it for reasoning models (text within <think> is ignored).
        extra: additional fields of the request, such as {seed: 0}.
        after: words that the number follows, such as `Final Score:`, where an answer has more to say; where it has them
            twice, the last. Of several, the mean of their numbers, if all are there.
        token_env, concurrency, attempts, first_wait_s, timeout_s, deadline_s: as in `HttpJudge`.

    Raises:
        UserError: as `HttpJudge`; or the range is empty, or the template lacks {prompt}.
    """

    images_per_request = 1

    def __init__(
        self,
        url: str,
        model: str,
        template: str = TEMPLATE,
        lowest: float = 0.0,
        highest: float = 10.0,
        normaliser: Positive = 10.0,
        max_tokens: Count = 64,
        extra: dict[str, Any] | None = None,
        after: Sequence[str] = (),
        token_env: str | None = None,
        concurrency: Count = 8,
        attempts: Count = 5,
        first_wait_s: float = 0.5,
        timeout_s: Positive = 120.0,
        deadline_s: Positive = 600.0,
    ) -> None:
        if not lowest < highest:
            raise UserError(f"rewards.args.highest={highest} must be above rewards.args.lowest={lowest}")
        if "{prompt}" not in template:
            raise UserError("rewards.args.template lacks {prompt}, where the prompt goes")
        self.client = JsonClient(
            chat_url(url),
            *(token_env, concurrency, attempts, first_wait_s, timeout_s, deadline_s),
            expected=CHOICES,
        )
        self.deadline_s = deadline_s
        self.model, self.template = model, template
        self.lowest, self.highest, self.normaliser = lowest, highest, normaliser
        self.after = [after] if isinstance(after, str) else [*after]
        self.fields = {"max_tokens": max_tokens, "temperature": 0, **(extra or {})}

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        parts = list(zip(to_bytes(images_B3HW).cpu(), prompts, strict=True))
        scores = [self._score(answer) for answer in self.client.post_all(self._body, parts)]
        return torch.tensor(scores, dtype=torch.float32, device=images_B3HW.device) / self.normaliser

    def to(self, device: torch.device | str) -> "ChatJudge":
        return self

    def _body(self, part: tuple[Tensor, str]) -> dict[str, Any]:
        pixels_3HW, prompt = part
        question = self.template.replace("{lowest}", f"{self.lowest:g}").replace("{highest}", f"{self.highest:g}")
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png_base64(pixels_3HW)}"}},
            {"type": "text", "text": question.replace("{prompt}", prompt)},
        ]
        return {"model": self.model, "messages": [{"role": "user", "content": content}], **self.fields}

    def _score(self, answer: Any) -> float:
        text = message_text(self.client, answer)
        numbers = [number_after(words, text) for words in self.after] or [only_number(text)]
        usable = all(self.lowest <= number <= self.highest for number in numbers)
        return sum(numbers) / len(numbers) if usable else math.nan


def number_after(words: str, text: str) -> float:
    """The number that follows the last occurrence of `words`; NaN if none does. Text within <think> is ignored."""
    _, mark, rest = without_thoughts(text).rpartition(words)
    found = re.match(r"[\s*:]*([-+]?\d+(?:\.\d+)?)(?!\w|\.\d)", rest)
    return float(found[1]) if mark and found else math.nan


def only_number(text: str) -> float:
    """The only number in a text, n of `n/m`; NaN if there is none or more than one. Text within <think> is ignored."""
    found = re.findall(r"(?<![\w.])([-+]?\d+(?:\.\d+)?)(?:\s*/\s*\d+(?:\.\d+)?)?(?!\w|\.\d)", without_thoughts(text))
    return float(found[0]) if len(found) == 1 else math.nan


def png_base64(pixels_3HW: Tensor) -> str:
    """A uint8 image as a base64-encoded PNG."""
    return base64.b64encode(png(pixels_3HW)).decode("ascii")
