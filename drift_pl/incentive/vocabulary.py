"""Vocabularies: word lists and templates from which a text names what its prompt leaves open.

A JSON-lines file, read by `vocabulary_file.py`. Each line is an attribute with its words, a template, or the words that
name nothing:

    {"attribute": "size", "words": {"small": ["small", "tiny"], "large": ["large", "big"]}}
    {"attribute": "style", "words": ["an oil painting", "a photograph"]}
    {"template": "{prompt}[, {size}][, as {style}]"}
    {"plain": ["a", "the", "thing"]}

A prompt names an attribute if it contains one of its words; the others it leaves open. In a template, `{style}` is the
place of a word of that attribute, `{shape|thing}` has a text for where there is none, and a part in brackets is left
out where it has none. With `{prompt}` only open attributes have words. A template without it makes the text anew, from
the prompt's own words and those for what it leaves open, so it serves only prompts all of whose words are known: each
attribute is named at most once, and what is left is in `plain`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from drift_pl.core.rng import make_generator

PROMPT = "prompt"
WORD = re.compile(r"[^\W_]+")
TRIES = 20
"""Draws per text that is wanted: a prompt may have fewer than that."""


@dataclass(frozen=True)
class Template:
    """A text with places for words.

    Attributes:
        source: as it was written.
        parts: (whether it is in brackets, its pieces); a piece is a text, or (attribute, text where it has no word).
    """

    source: str
    parts: tuple[tuple[bool, tuple[str | tuple[str, str | None], ...]], ...]

    @property
    def slots(self) -> set[str]:
        return {piece[0] for _, pieces in self.parts for piece in pieces if isinstance(piece, tuple)}

    @property
    def required(self) -> set[str]:
        """Attributes that have no other text and are not in brackets."""
        return {
            piece[0]
            for optional, pieces in self.parts
            for piece in pieces
            if isinstance(piece, tuple) and not optional and piece[1] is None
        } - {PROMPT}

    def fill(self, words: Mapping[str, str]) -> str | None:
        """The text with these words; None if it lacks one that it requires."""
        done = []
        for optional, pieces in self.parts:
            filled = [piece if isinstance(piece, str) else words.get(piece[0], piece[1]) for piece in pieces]
            if None not in filled:
                done.append("".join(text for text in filled if text))
            elif not optional:
                return None
        return " ".join("".join(done).split())


@dataclass(frozen=True)
class Vocabulary:
    """See the module.

    Attributes:
        attributes: attribute -> value -> its words.
        templates: what texts are made from.
        plain: words that name nothing.
    """

    attributes: Mapping[str, Mapping[str, Sequence[str]]]
    templates: Sequence[Template]
    plain: frozenset[str] = field(default_factory=frozenset)

    def expansions(self, prompt: str, count: int, most: int, seed: int) -> tuple[str, ...]:
        """Distinct texts that name what a prompt leaves open: a function of (prompt, seed).

        Every value of an attribute is drawn equally often, up to one.

        Args:
            count: the largest number of texts.
            most: attributes that a text names besides the prompt's own, at most; 0: all that the prompt leaves open.
                What a template requires does not count.

        Returns:
            None at all for a prompt that no template serves; maybe the prompt alone where nothing is left open.
        """
        own, templates = self._serving(prompt)
        if not templates:
            return ()
        still_open = [name for name in self.attributes if name not in own]
        generator = make_generator(f"expansions:{prompt}", seed)
        turns = {name: _Turns(list(self.attributes[name].values()), generator) for name in still_open}
        found: dict[str, None] = {}
        for number in range(TRIES * count):
            template = templates[number % len(templates)]
            chosen = [still_open[place] for place in torch.randperm(len(still_open), generator=generator).tolist()]
            words = {name: turns[name].draw() for name in chosen[: most or None]}
            words |= {name: turns[name].draw() for name in sorted(template.required - own.keys() - words.keys())}
            given = {PROMPT: prompt} if PROMPT in template.slots else {name: said[0] for name, said in own.items()}
            text = template.fill({**words, **given})
            if text is not None:
                found[text] = None
            if len(found) == count:
                break
        return tuple(found)

    def serves(self, prompt: str) -> bool:
        """Whether there is a template for a prompt."""
        return bool(self._serving(prompt)[1])

    def _serving(self, prompt: str) -> tuple[dict[str, list[str]], list[Template]]:
        """Attribute -> words of it that a prompt contains; and the templates that serve the prompt."""
        own, known = self._named(prompt)
        fitting = (each for each in self.templates if PROMPT in each.slots or known)
        return own, [each for each in fitting if PROMPT not in each.slots or not each.required & own.keys()]

    @cached_property
    def _words(self) -> list[tuple[str, str, str]]:
        """Each word as `_plain` has it, as it is, and its attribute; the longest first."""
        found = [
            (_plain(word), word, name)
            for name, values in self.attributes.items()
            for words in values.values()
            for word in words
        ]
        return sorted(found, key=lambda each: (-len(each[0]), each))

    def _named(self, prompt: str) -> tuple[dict[str, list[str]], bool]:
        """Attribute -> words of it that a prompt contains; and whether all that it says is known, and said once."""
        rest: str = _plain(prompt)
        own: dict[str, list[str]] = {}
        for said, word, name in self._words:
            if said in rest:
                own.setdefault(name, []).append(word)
                rest = rest.replace(said, " \0 ")
        unknown = set(rest.replace("\0", " ").split()) - self.plain
        return own, not unknown and all(len(words) == 1 for words in own.values())


def _plain(text: str) -> str:
    """The words of a text without marks between them, and a blank on either side."""
    return f" {' '.join(WORD.findall(text.lower()))} "


class _Turns:
    """Draws values in random order, each once before any again, and one of its words."""

    def __init__(self, values: Sequence[Sequence[str]], generator: torch.Generator) -> None:
        self._values, self._generator, self._left = values, generator, list[int]()

    def draw(self) -> str:
        if not self._left:
            self._left = torch.randperm(len(self._values), generator=self._generator).tolist()
        words = self._values[self._left.pop()]
        return words[int(torch.randint(len(words), (), generator=self._generator))]
