"""Writers for tests, named in configs as `writers:Thing`."""

from collections.abc import Sequence

ASKED: list[str] = []


def counting(prompts: Sequence[str], count: int) -> list[list[str]]:
    """Never the same texts again, as a language model."""
    ASKED.extend(prompts)
    return [[f"{prompt} {len(ASKED)} {number}" for number in range(count)] for prompt in prompts]


def empty(prompts: Sequence[str], count: int) -> list[list[str]]:
    return [[prompt, "", " "] for prompt in prompts]


def few(prompts: Sequence[str], count: int) -> list[list[str]]:
    return [["one"]]


def broken(prompts: Sequence[str], count: int) -> list[list[str]]:
    raise ConnectionError("no answer")
