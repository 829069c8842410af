"""Texts that are longer than what reads them: one warning, with their number."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHOWN = 40
"""Characters of the longest text that the warning shows."""


@dataclass(frozen=True)
class TextLimit:
    """What one text encoder takes.

    Attributes:
        tokens: the most, with the tokens that mark beginning and end.
        tokenizer: of transformers.
        as_read: a text as the tokenizer gets it, of the text.
    """

    tokens: int
    tokenizer: Any
    as_read: Callable[[str], str] = str

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, uncut."""
        read = [self.as_read(text) for text in texts]
        return [len(ids) for ids in self.tokenizer(read, truncation=False, verbose=False)["input_ids"]]


def expect_prompts(readers: Iterable[object], prompts: Sequence[str]) -> None:
    """Tells policies and rewards what they are going to read, so that each warns once; others are left alone."""
    for reader in readers:
        tell = getattr(reader, "expect_prompts", None)
        if tell is not None:
            tell(prompts)


class CutTexts:
    """Warns once, of the first texts among which there are some that are cut.

    Args:
        reader: what reads them, as the warning names it.
    """

    def __init__(self, reader: str) -> None:
        self._reader = reader
        self._seen: set[str] = set()
        self._warned = False

    def look(self, texts: Sequence[str], limits: Mapping[str, TextLimit]) -> None:
        """Warns, unless it has done so before, if one of the texts has more tokens than a text encoder takes.

        Args:
            texts: those that are going to be read; each is looked at once.
            limits: by the name of the text encoder.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._seen]
        if self._warned or not new:
            return
        self._seen.update(new)
        counts = {name: limit.count(new) for name, limit in limits.items()}
        longer = {name: sum(count > limits[name].tokens for count in counts[name]) for name in limits}
        cut = {row for name in limits for row, count in enumerate(counts[name]) if count > limits[name].tokens}
        if not cut:
            return
        self._warned = True
        self._seen.clear()
        where = [
            f"{number} at {limits[name].tokens} tokens" + (f" by {name}" if len(limits) > 1 else "")
            for name, number in longer.items()
            if number
        ]
        longest = new[max(cut, key=lambda row: max(counts[name][row] for name in limits))]
        warnings.warn(
            f"{len(cut)} of {len(new)} prompts are longer than {self._reader} takes and are cut: {', '.join(where)}; "
            f"the longest begins {longest[:SHOWN]!r}",
            stacklevel=2,
        )
