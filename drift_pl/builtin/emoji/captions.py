"""Captions of the emoji world: they name a thing or a group of things and, sometimes, a style; and their parser.

A caption that names a thing leaves its style open; one that names a group leaves the thing open as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from drift_pl.builtin.emoji.things import GROUPS, OPEN, STYLES, THINGS

PHRASES = {"drink": "something to drink", "food": "something to eat", "sweet": "something sweet"}
"""How a group is spoken of where "a GROUP" would be odd English."""
UNCOUNTED = ("beer", "bread", "chocolate", "coffee", "fries", "juice", "soup", "sushi", "wine")
"""Things that take no article."""
OPENINGS = ("", "", "", "a picture of ", "a drawing of ")
GROUP_SHARE, STYLE_SHARE = 0.25, 0.25
"""Shares of training captions that name a group instead of a thing, and that name the style."""
TESTED_OPEN = {"train": ("animal", "food", "fruit", "plant"), "tuning": ("bug", "land animal")}
"""Groups in the prompt lists; those in neither are in `test.txt`."""


@dataclass(frozen=True)
class Meaning:
    """What a prompt asks for.

    Attributes:
        things: the things that would do, positions in `THINGS`; all of them if the prompt names none.
        style: position in `STYLES`, or None if the prompt leaves it open.
    """

    things: frozenset[int]
    style: int | None

    @property
    def names_one_thing(self) -> bool:
        return len(self.things) == 1


def vocabulary() -> list[str]:
    """Every word that a caption can contain, sorted."""
    texts = [*THINGS, *OPEN, *STYLES, *PHRASES.values(), *OPENINGS, "a an something"]
    return sorted({word for text in texts for word in text.split()})


def phrase(subject: str, style: str | None = None) -> str:
    """A noun phrase: "a cat", "a black and white bear", "something to drink", "something flat to eat".

    Args:
        subject: of `THINGS` or `OPEN`.
        style: of `STYLES`, or None.
    """
    if subject in PHRASES:
        first, *rest = PHRASES[subject].split()
        return " ".join([first, *([style] if style else []), *rest])
    text = f"{style} {subject}" if style else subject
    if subject in UNCOUNTED:
        return text
    return ("an " if text[0] in "aeiou" else "a ") + text


def random_caption(thing: int, style: int, generator: random.Random) -> str:
    """A caption of the picture that shows a thing, a position in `THINGS`, in a style, a position in `STYLES`."""
    subject = list(THINGS)[thing]
    if generator.random() < GROUP_SHARE:
        subject = generator.choice([name for name, things in OPEN.items() if subject in things])
    named = list(STYLES)[style] if generator.random() < STYLE_SHARE else None
    return generator.choice(OPENINGS) + phrase(subject, named)


def parse(prompt: str) -> Meaning:
    """What a prompt asks for. Unknown words are ignored; a thing counts before a group, a longer name before a shorter.

    Example: "a picture of a flat sea animal" means any of the sea animals, in the style `flat`.
    """
    words = " " + " ".join("".join(c if c.isalpha() else " " for c in prompt.lower()).split()) + " "
    style = next((place for place, name in enumerate(STYLES) if f" {name} " in words), None)
    for place, thing in enumerate(THINGS):
        if f" {thing} " in words:
            return Meaning(frozenset({place}), style)
    if style is not None:
        words = words.replace(f" {list(STYLES)[style]} ", " ")
    spoken = {name: PHRASES.get(name, name) for name in OPEN}
    for name in sorted(OPEN, key=lambda name: -len(spoken[name])):
        if f" {name} " in words or f" {spoken[name]} " in words:
            return Meaning(frozenset(list(THINGS).index(thing) for thing in OPEN[name]), style)
    return Meaning(frozenset(range(len(THINGS))), style)


def prompt_lists(seed: int = 0) -> dict[str, list[str]]:
    """The shipped prompts, split by thing and without a style: `train` (38), `tuning` (14), `test` (28).

    The base model has seen all things; fine-tuning sees those of `train` alone. Every list has things of each group.
    """
    generator = random.Random(seed)
    subjects: dict[str, list[str]] = {"train": [], "tuning": [], "test": []}
    for things in GROUPS.values():
        names = list(things)
        generator.shuffle(names)
        tested, tuned = round(len(names) * 0.31), max(1, round(len(names) * 0.15))
        subjects["test"] += names[:tested]
        subjects["tuning"] += names[tested : tested + tuned]
        subjects["train"] += names[tested + tuned :]
    for name, chosen in subjects.items():
        generator.shuffle(chosen)
        elsewhere = {other for groups in TESTED_OPEN.values() for other in groups}
        chosen += TESTED_OPEN.get(name) or [group for group in OPEN if group not in elsewhere]
    return {name: [phrase(subject) for subject in chosen] for name, chosen in subjects.items()}


def expansions() -> dict[str, list[str]]:
    """Each training prompt with texts that name what it leaves open: the style, and of a group also the thing.

    Things that are not among the training prompts are not named. `prompts/expansions.jsonl` is this, a file for
    `incentive.prompting.paraphrases`.
    """
    trained = set(prompt_lists()["train"])
    things = [thing for thing in THINGS if phrase(thing) in trained]
    texts = {phrase(thing): [phrase(thing, style) for style in STYLES] for thing in things}
    for name, members in OPEN.items():
        if phrase(name) in trained:
            texts[phrase(name)] = [phrase(thing, style) for style in STYLES for thing in things if thing in members]
    return texts
