"""Captions of the built-in world: sentences that name some attributes, and a parser for them.

Most prompts leave most attributes open, which is where diversity can be lost.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from itertools import combinations

from drift_pl.builtin.world import ATTRIBUTES

SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "shape": {
        "circle": ("circle", "disc"),
        "triangle": ("triangle",),
        "cross": ("cross", "plus"),
    },
    "colour": {
        "red": ("red",),
        "yellow": ("yellow",),
        "green": ("green",),
        "cyan": ("cyan", "turquoise"),
        "blue": ("blue",),
        "purple": ("purple", "magenta"),
    },
    "size": {"small": ("small", "tiny"), "large": ("large", "big")},
    "place": {"left": ("left",), "centre": ("centre", "center", "middle"), "right": ("right",)},
    "background": {"dark": ("dark", "black"), "grey": ("grey", "gray"), "light": ("light", "white")},
}
MEANING: dict[str, tuple[str, str]] = {
    word: (name, value) for name, values in SYNONYMS.items() for value, words in values.items() for word in words
}
NOUNS = ("thing", "object", "shape")
OPENINGS = ("", "", "", "a picture of ", "an image of ")
PLACE_PREPOSITIONS = {"left": ("on", "at"), "centre": ("in",), "right": ("on", "at")}
BACKGROUND_PREPOSITIONS = ("on", "with", "against")
MAX_WORDS = 14
NAMING_PROBABILITY = {"shape": 0.6, "colour": 0.4, "size": 0.4, "place": 0.4, "background": 0.4}
"""Probability that a training caption names each attribute; higher for the shape, which is learned last."""
RESERVED = ("box", "hoop", "ring", "square")
"""Words in the tokenizer's vocabulary that no caption uses: shapes removed from the world."""


def vocabulary() -> list[str]:
    """Every word that a caption can contain, and the reserved ones, sorted."""
    function_words = ["a", "an", "the", "of", "something", "picture", "image", "background", "in", "at"]
    return sorted({*MEANING, *NOUNS, *RESERVED, *BACKGROUND_PREPOSITIONS, *function_words})


def _subject(words: Mapping[str, str], noun: str) -> str:
    """The noun phrase: "a small red circle", "something red", "an object"."""
    adjectives = [words[name] for name in ("size", "colour") if name in words]
    if "shape" not in words and noun == NOUNS[0] and adjectives:
        return "something " + " ".join(adjectives)
    phrase = " ".join([*adjectives, words.get("shape", noun)])
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def caption(scene: Mapping[str, str], named: Collection[str], generator: random.Random) -> str:
    """A sentence that names exactly the attributes ``named`` of a scene, at most ``MAX_WORDS`` words.

    Args:
        scene: attribute -> value; at least the named ones.
        named: names from ``ATTRIBUTES``; may be empty.
        generator: chooses template and synonyms.
    """
    words = {name: generator.choice(SYNONYMS[name][scene[name]]) for name in ATTRIBUTES if name in named}
    text = generator.choice(OPENINGS) + _subject(words, generator.choice(NOUNS))
    if "place" in words:
        preposition = generator.choice(PLACE_PREPOSITIONS[scene["place"]])
        text += f" {preposition} the {words['place']}"
    if "background" in words:
        text += f" {generator.choice(BACKGROUND_PREPOSITIONS)} a {words['background']} background"
    return text


def random_caption(scene: Mapping[str, str], generator: random.Random) -> str:
    """A caption that names each attribute independently with its ``NAMING_PROBABILITY``."""
    named = [name for name, probability in NAMING_PROBABILITY.items() if generator.random() < probability]
    return caption(scene, named, generator)


def parse(prompt: str) -> dict[str, str]:
    """Attributes named by a prompt: attribute -> value. Unknown words are ignored; the first of two values counts."""
    named: dict[str, str] = {}
    for word in "".join(c if c.isalpha() else " " for c in prompt.lower()).split():
        if word in MEANING:
            name, value = MEANING[word]
            named.setdefault(name, value)
    return named


def parse_indices(prompt: str) -> dict[str, int]:
    """Like :func:`parse`, with positions in ``ATTRIBUTES[name]`` instead of words."""
    return {name: ATTRIBUTES[name].index(value) for name, value in parse(prompt).items()}


def plain_caption(scene: Mapping[str, str]) -> str:
    """The canonical caption of exactly the attributes in ``scene``: no opening, first synonyms."""
    text = _subject(scene, NOUNS[0])
    if "place" in scene:
        text += f" {PLACE_PREPOSITIONS[scene['place']][0]} the {scene['place']}"
    return text + (f" on a {scene['background']} background" if "background" in scene else "")


def prompt_lists(seed: int = 0) -> dict[str, list[str]]:
    """The shipped prompts: ``train`` (48), ``tuning`` (16), ``test`` (32), each naming one or two attributes.

    No combination of attribute values is in two lists, so the test prompts name pairs never trained on.
    """
    generator = random.Random(seed)
    singles = [{name: value} for name, values in ATTRIBUTES.items() for value in values]
    pairs = [
        {first: a, second: b}
        for first, second in combinations(ATTRIBUTES, 2)
        for a in ATTRIBUTES[first]
        for b in ATTRIBUTES[second]
    ]
    generator.shuffle(singles)
    generator.shuffle(pairs)
    lists: dict[str, list[str]] = {}
    for name, single_count, pair_count in (("test", 6, 26), ("tuning", 2, 14), ("train", 9, 39)):
        chosen = singles[:single_count] + pairs[:pair_count]
        singles, pairs = singles[single_count:], pairs[pair_count:]
        lists[name] = [plain_caption(scene) for scene in chosen]
    return lists
