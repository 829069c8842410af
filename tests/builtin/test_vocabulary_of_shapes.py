"""The shipped vocabulary says of a prompt what the built-in world says, in words that its model knows."""

from collections import Counter

from drift_pl.builtin.captions import MAX_WORDS, NAMING_PROBABILITY, SYNONYMS, parse, prompt_lists, vocabulary
from drift_pl.builtin.world import ATTRIBUTES
from drift_pl.incentive.vocabulary_file import read_vocabulary

NAME = "pkg:drift_pl.builtin/prompts/vocabulary.jsonl"


def test_every_prompt_is_expanded_to_whole_scenes_that_keep_what_it_says() -> None:
    """Oracle: the parser of the world's captions.

    Catches in builtin/prompts/vocabulary.jsonl: words that the tokenizer lacks; a value without a word.
    """
    shipped, known = read_vocabulary(NAME), set(vocabulary())
    for prompt in (prompt for prompts in prompt_lists().values() for prompt in prompts):
        texts = shipped.expansions(prompt, 40, 0, 0)
        assert len(texts) == 40
        for text in texts:
            named = parse(text)
            assert named.keys() == NAMING_PROBABILITY.keys()
            assert parse(prompt).items() <= named.items()
            assert set(text.split()) <= known
            assert len(text.split()) <= MAX_WORDS


def test_every_value_is_shown_about_equally_often() -> None:
    texts = read_vocabulary(NAME).expansions("a thing", 60, 0, 0)
    for attribute, values in ATTRIBUTES.items():
        counts = Counter(parse(text)[attribute] for text in texts)
        assert counts.keys() == set(values)
        assert max(counts.values()) - min(counts.values()) <= 3
    words = {word for values in read_vocabulary(NAME).attributes.values() for said in values.values() for word in said}
    assert {word.split()[-1] for word in words} == {
        word for values in SYNONYMS.values() for own in values.values() for word in own
    }
