"""Warnings of prompts that the text encoders of a pipeline cut, or do not know."""

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

from drift_pl.core.text_length import CutTexts, TextLimit


class PromptWarnings:
    """Part of a `PipelinePolicy`, whose attributes it reads: how long a text is for each of its text encoders."""

    pipeline: Any
    max_sequence_length: int
    text_parts: ClassVar[tuple[str, ...]]
    sized_part: ClassVar[str | None]

    def __init__(self) -> None:
        self._cut_texts = CutTexts("the model")
        self._spelled: set[str] = set()

    def expect_prompts(self, prompts: Sequence[str]) -> None:
        """Warns of prompts that the model cuts, and of words that it has not learned; of each once.

        `encode` does so for its own prompts. Given all prompts of a run before, there is one warning with their number.
        """
        self._cut_texts.look(prompts, self._text_limits())
        self._warn_of_spelled_words(prompts)

    def _as_read(self, prompt: str) -> str:
        """A prompt as the tokenizer gets it."""
        return prompt

    def _text_limits(self) -> dict[str, TextLimit]:
        """By the name of the text encoder; one that is left out has none."""
        limits = {}
        for part in self.text_parts:
            tokenizer = getattr(self.pipeline, part.replace("text_encoder", "tokenizer"))
            if getattr(self.pipeline, part) is not None and tokenizer is not None:
                tokens = self.max_sequence_length if part == self.sized_part else tokenizer.model_max_length
                limits[part] = TextLimit(tokens, tokenizer, self._as_read)
        return {part: limit for part, limit in limits.items() if limit.tokens > 0}

    def _warn_of_spelled_words(self, prompts: Sequence[str]) -> None:
        """Warns about words that the tokenizer can only spell letter by letter: the model has not learned them."""
        tokenizer = self.pipeline.tokenizer
        words = sorted({word for prompt in prompts for word in prompt.lower().split() if word.isalpha()})
        spelled = [word for word in words if len(word) > 3 and len(tokenizer.tokenize(word)) == len(word)]
        new = [word for word in spelled if word not in self._spelled]
        if new:
            self._spelled.update(new)
            warnings.warn(f"unknown to the model's tokenizer, may be ignored: {', '.join(new)}", stacklevel=2)
