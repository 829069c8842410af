"""Captions of the emoji world and their parser, and the prompt lists."""

import random

import pytest

from drift_pl.builtin.emoji import PROMPTS
from drift_pl.builtin.emoji.captions import expansions, parse, phrase, prompt_lists, random_caption, vocabulary
from drift_pl.builtin.emoji.things import GROUPS, OPEN, STYLES, THINGS
from drift_pl.builtin.tokenizer import build_tokenizer
from drift_pl.incentive.paraphrases import read_paraphrases

NAMES, STYLE_NAMES = list(THINGS), list(STYLES)


def test_a_caption_means_the_picture_it_was_made_for() -> None:
    """Catches in builtin/emoji/captions.py: a longer group's name found after the shorter one within it."""
    words, tokenizer = random.Random(0), build_tokenizer(vocabulary(), 12)
    for _ in range(3000):
        thing, style = words.randrange(len(THINGS)), words.randrange(len(STYLES))
        text = random_caption(thing, style, words)
        meaning = parse(text)
        assert thing in meaning.things
        assert meaning.style in (style, None)
        assert set(text.split()) <= set(vocabulary())
        assert len(tokenizer(text, truncation=False).input_ids) <= 12, text


@pytest.mark.parametrize("style", [None, *STYLES])
@pytest.mark.parametrize("group", list(OPEN))
def test_a_group_means_all_its_things(group: str, style: str | None) -> None:
    meaning = parse(f"A picture of {phrase(group, style)}!")
    assert {NAMES[place] for place in meaning.things} == set(OPEN[group])
    assert meaning.style == (STYLE_NAMES.index(style) if style else None)


@pytest.mark.parametrize(
    ("prompt", "things", "style"),
    [
        ("a cat", {"cat"}, None),
        ("black and white bread", {"bread"}, "black and white"),
        ("something flat to drink", set(GROUPS["drink"]), "flat"),
        ("a glossy sea animal", set(GROUPS["sea animal"]), "glossy"),
        ("", set(THINGS), None),
    ],
)
def test_parse_by_hand(prompt: str, things: set[str], style: str | None) -> None:
    meaning = parse(prompt)
    assert {NAMES[place] for place in meaning.things} == things
    assert meaning.style == (STYLE_NAMES.index(style) if style else None)


def test_no_prompt_is_in_two_lists_and_no_thing_is_in_none() -> None:
    lists = prompt_lists()
    texts = [text for prompts in lists.values() for text in prompts]
    assert len(texts) == len(set(texts)) == len(THINGS) + len(OPEN)
    for name, prompts in lists.items():
        assert (PROMPTS / f"{name}.txt").read_text().splitlines() == prompts
        things = [thing for text in prompts if parse(text).names_one_thing for thing in parse(text).things]
        groups = {group for group in GROUPS for thing in things if NAMES[thing] in GROUPS[group]}
        assert groups == set(GROUPS), f"{name} lacks things of a group"


def test_expansions_name_what_a_prompt_leaves_open_and_nothing_that_is_tested() -> None:
    """Each text means some of what its prompt means, in one style; every style is named equally often.

    Catches in drift_pl/builtin/emoji/captions.py: a group's texts name things of the other lists, or none.
    """
    lists = prompt_lists()
    assert read_paraphrases(str(PROMPTS / "expansions.jsonl")) == {
        prompt: tuple(texts) for prompt, texts in expansions().items()
    }
    assert set(expansions()) == set(lists["train"])
    kept = {thing for name in ("tuning", "test") for text in lists[name] for thing in parse(text).things}
    kept -= {thing for text in lists["train"] if parse(text).names_one_thing for thing in parse(text).things}
    for prompt, texts in expansions().items():
        meanings = [parse(text) for text in texts]
        assert all(meaning.names_one_thing and meaning.things <= parse(prompt).things for meaning in meanings)
        assert not kept & {thing for meaning in meanings for thing in meaning.things}
        named = [meaning.style for meaning in meanings]
        assert {named.count(style) for style in range(len(STYLE_NAMES))} == {len(texts) // len(STYLE_NAMES)}
