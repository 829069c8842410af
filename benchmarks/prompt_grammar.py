"""Writes the larger list of training prompts for models of real images, by a small grammar.

    python benchmarks/prompt_grammar.py    # writes drift_pl/prompt_lists/real_train_large.txt

Each section of the list is a set of patterns with slots (`prompt_grammar.yaml`). The combinations of a pattern are
walked in strides of the golden section, so that neighbours differ in every slot, and nothing is drawn at random. A
prompt that shares half of its content words with one before it, or a third with one of the tuning or the test list, is
left out.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, cycle, islice
from math import gcd, prod
from pathlib import Path
from typing import Any

import yaml

LISTS = Path(__file__).parents[1] / "drift_pl" / "prompt_lists"
PER_SECTION = 320
GOLDEN = (5**0.5 - 1) / 2
SMALL_WORDS = set(re.findall("[a-z]+", "a an the of in on at with and to by from under over its is into for beside as"))
HEAD = "# Training prompts for models of real images, by benchmarks/prompt_grammar.py; none is in the other lists."


def read_grammar() -> dict[str, Any]:
    """`sections`: name -> patterns; `slots`: name -> words."""
    grammar = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="ascii"))
    return grammar | {"slots": {name: words.split(", ") for name, words in grammar["slots"].items()}}


def combinations(pattern: str, words: dict[str, list[str]]) -> Iterator[str]:
    """Every filling of a pattern, neighbours far apart."""
    slots = [words[slot] for slot in re.findall("{(.*?)}", pattern)]
    total = prod(map(len, slots))
    stride = next(number for number in range(round(total * GOLDEN), total) if gcd(number, total) == 1)
    for number in (index * stride % total for index in range(total)):
        filled = pattern
        for slot in slots:
            number, place = divmod(number, len(slot))
            filled = re.sub("{.*?}", slot[place], filled, count=1)
        yield _articles(filled)


def _articles(text: str) -> str:
    return re.sub(r"\ba (?=[aeio]|u(?!ni|se))", "an ", text)


def content_words(prompt: str) -> frozenset[str]:
    return frozenset(re.findall("[a-z'-]+", prompt.lower())) - SMALL_WORDS


def shared(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def section(patterns: Sequence[str], slots: dict[str, list[str]], held_out: Sequence[frozenset[str]]) -> list[str]:
    """`PER_SECTION` prompts, of every pattern in turn."""
    kept: dict[str, frozenset[str]] = {}
    streams = cycle([combinations(pattern, slots) for pattern in patterns])
    for prompt in chain.from_iterable(islice(stream, 1) for stream in streams):
        words = content_words(prompt)
        held = any(shared(words, other) >= 1 / 3 for other in held_out)
        if not held and not any(shared(words, other) >= 1 / 2 for other in kept.values()):
            kept[prompt] = words
        if len(kept) == PER_SECTION:
            return list(kept)
    raise AssertionError


def held_out_words() -> list[frozenset[str]]:
    files = [LISTS / f"real_{name}.txt" for name in ("tuning", "test")]
    lines = [line for file in files for line in file.read_text(encoding="ascii").splitlines()]
    return [content_words(line) for line in lines if not line.startswith("#")]


def prompt_list() -> str:
    """The text of the file."""
    grammar, held_out = read_grammar(), held_out_words()
    sections = grammar["sections"].items()
    parts = [[f"# {name}", *section(patterns, grammar["slots"], held_out)] for name, patterns in sections]
    return "\n".join([HEAD, *chain.from_iterable(parts)]) + "\n"


if __name__ == "__main__":
    path = LISTS / "real_train_large.txt"
    path.write_text(prompt_list(), encoding="ascii")
    print(path)
