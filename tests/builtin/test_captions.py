"""Captions and their parser, the prompt lists, and the tokenizer."""

import random

import pytest

from drift_pl.builtin import PROMPTS
from drift_pl.builtin.captions import (
    MAX_WORDS,
    MEANING,
    caption,
    parse,
    parse_indices,
    prompt_lists,
    vocabulary,
)
from drift_pl.builtin.tokenizer import MAX_TOKENS, build_tokenizer
from drift_pl.builtin.world import ATTRIBUTES


def test_parse_inverts_caption() -> None:
    words, tokenizer, seen = random.Random(0), build_tokenizer(), set()
    for _ in range(2000):
        scene = {name: words.choice(values) for name, values in ATTRIBUTES.items()}
        named = [name for name in ATTRIBUTES if words.random() < 0.5]
        text = caption(scene, named, words)
        assert parse(text) == {name: scene[name] for name in named}
        assert len(text.split()) <= MAX_WORDS
        seen.update(text.split())
    assert seen <= set(vocabulary())
    assert set(MEANING) <= seen
    assert len(tokenizer(text).input_ids) <= MAX_TOKENS


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a circle", {"shape": "circle"}),
        ("something RED, on a black background!", {"colour": "red", "background": "dark"}),
        ("a photo of a tiny zebra in the middle", {"size": "small", "place": "centre"}),
        ("a red blue disc", {"colour": "red", "shape": "circle"}),
        ("", {}),
    ],
)
def test_parse_by_hand(prompt: str, named: dict[str, str]) -> None:
    assert parse(prompt) == named


def test_parse_indices() -> None:
    assert parse_indices("a large purple cross") == {"size": 1, "colour": 5, "shape": 2}


def test_shipped_prompt_lists_are_the_generated_ones_and_disjoint() -> None:
    lists = prompt_lists()
    assert {name: len(prompts) for name, prompts in lists.items()} == {"test": 32, "tuning": 16, "train": 48}
    meanings = [tuple(sorted(parse(prompt).items())) for prompts in lists.values() for prompt in prompts]
    assert len(set(meanings)) == 96
    assert {len(meaning) for meaning in meanings} == {1, 2}
    for name, prompts in lists.items():
        assert (PROMPTS / f"{name}.txt").read_text().splitlines() == prompts


def test_every_word_is_one_token_and_any_text_is_encodable() -> None:
    tokenizer = build_tokenizer()
    for word in vocabulary():
        assert len(tokenizer(word).input_ids) == 3, word
    ids = tokenizer("ünïcode 图").input_ids
    assert tokenizer.eos_token_id not in ids[:-1]
    assert tokenizer.eos_token_id != 2
