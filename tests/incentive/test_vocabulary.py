"""Vocabularies: what a prompt leaves open, the texts that name it, and the errors of bad lines.

Catches in incentive/vocabulary.py: a named attribute named again; words known by a part of them; the longest word not
first; a required attribute left out; values drawn unevenly.
"""

import json
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import torch

from drift_pl.core.errors import UserError, naming
from drift_pl.incentive.vocabulary import Vocabulary
from drift_pl.incentive.vocabulary_file import ATTRIBUTE_LINE, PLAIN_LINE, TEMPLATE_LINE, read_vocabulary

SIZE = '{"attribute": "size", "words": {"small": ["small", "tiny"], "large": ["large"]}}'
STYLE = '{"attribute": "style", "words": ["an oil painting", "a photograph", "art"]}'
SHAPE = '{"attribute": "shape", "words": ["disc", "cross"]}'
AROUND = '{"template": "{prompt}[, {size}][, as {style}]"}'
ANEW = '{"template": "a[ {size}] {shape|thing}"}'
PLAIN = '{"plain": ["a", "the", "thing"]}'


def vocabulary(path: Path, *lines: str) -> Vocabulary:
    file = path / "v.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_vocabulary(str(file))


def test_the_texts_are_all_that_can_be_said(tmp_path: Path) -> None:
    """Oracle: the product of the words of what is open, written down."""
    found = vocabulary(tmp_path, SIZE, STYLE, AROUND).expansions("a dog", 100, 0, 0)
    sizes, styles = ("small", "tiny", "large"), ("an oil painting", "a photograph", "art")
    assert set(found) == {f"a dog, {size}, as {style}" for size, style in product(sizes, styles)}
    assert len(found) == 9
    anew = vocabulary(tmp_path, SIZE, SHAPE, ANEW, PLAIN)
    assert set(anew.expansions("the thing", 100, 0, 0)) == {f"a {s} {k}" for s in sizes for k in ("disc", "cross")}


def test_all_templates_serve(tmp_path: Path) -> None:
    """Catches in incentive/vocabulary.py: the first template alone is filled."""
    before = '{"template": "{size}, {prompt}"}'
    found = vocabulary(tmp_path, SIZE, '{"template": "{prompt}, {size}"}', before).expansions("a dog", 100, 0, 0)
    sizes = ("small", "tiny", "large")
    assert set(found) == {f"a dog, {size}" for size in sizes} | {f"{size}, a dog" for size in sizes}


def test_what_a_prompt_names_is_kept_and_not_named_again(tmp_path: Path) -> None:
    around, anew = (vocabulary(tmp_path, SIZE, STYLE, AROUND), vocabulary(tmp_path, SIZE, SHAPE, ANEW, PLAIN))
    assert set(around.expansions("A Tiny dog", 9, 0, 0)) == {
        "A Tiny dog, as an oil painting", "A Tiny dog, as a photograph", "A Tiny dog, as art"
    }  # fmt: skip
    assert set(around.expansions("artful oil", 9, 1, 0)) == {
        *(f"artful oil, {size}" for size in ("small", "tiny", "large")),
        *(f"artful oil, as {style}" for style in ("an oil painting", "a photograph", "art")),
    }, "parts of words name nothing"
    assert around.expansions("a tiny dog as an oil painting", 9, 0, 0) == ("a tiny dog as an oil painting",)
    assert set(anew.expansions("a cross", 9, 0, 0)) == {"a small cross", "a tiny cross", "a large cross"}
    assert anew.expansions("the large disc", 9, 0, 0) == ("a large disc",)


@pytest.mark.parametrize("prompt", ["a dog", "a small large disc", "a disc cross"])
def test_a_text_made_anew_serves_prompts_only_that_it_says_all_of(tmp_path: Path, prompt: str) -> None:
    anew = vocabulary(tmp_path, SIZE, SHAPE, ANEW, PLAIN)
    assert not anew.serves(prompt)
    assert anew.expansions(prompt, 9, 0, 0) == ()
    assert vocabulary(tmp_path, SIZE, SHAPE, ANEW, PLAIN, '{"template": "{prompt}[, {size}]"}').serves(prompt)


def test_at_most_so_many_attributes_are_named(tmp_path: Path) -> None:
    found = vocabulary(tmp_path, SIZE, STYLE, AROUND).expansions("a dog", 100, 1, 0)
    assert len(found) == 6
    assert all(("as" in text.split()) != any(size in text for size in ("small", "tiny", "large")) for text in found)
    required = vocabulary(tmp_path, SIZE, STYLE, '{"template": "{size} {prompt}[, as {style}]"}')
    assert all(text.split()[0] in ("small", "tiny", "large") for text in required.expansions("dog", 20, 1, 0))
    assert any(", as " in text for text in required.expansions("dog", 20, 1, 0)), "the size does not count"
    assert not required.serves("a small dog"), "whose size would stand twice"


def test_the_longest_word_counts(tmp_path: Path) -> None:
    scale = '{"attribute": "scale", "words": ["small scale"]}'
    found = vocabulary(tmp_path, SIZE, scale, '{"template": "{prompt}[, {size}][, {scale}]"}')
    assert set(found.expansions("a Small-scale town", 9, 0, 0)) == {
        f"a Small-scale town, {size}" for size in ("small", "tiny", "large")
    }
    assert set(found.expansions("a small town, to scale", 9, 0, 0)) == {"a small town, to scale, small scale"}


def test_values_are_drawn_equally_often_and_words_within_them(tmp_path: Path) -> None:
    many = json.dumps({"attribute": "number", "words": [f"n{number}" for number in range(50)]})
    found = vocabulary(tmp_path, SIZE, many, '{"template": "{prompt} {number} {size}"}').expansions("x", 40, 0, 0)
    assert len(found) == 40
    assert max(Counter(text.split()[1] for text in found).values()) == 1
    assert Counter(text.endswith("large") for text in found) == {True: 20, False: 20}


def test_texts_are_a_function_of_prompt_and_seed(tmp_path: Path) -> None:
    words = vocabulary(tmp_path, SIZE, STYLE, AROUND)
    first = words.expansions("a dog", 4, 0, 1)
    torch.manual_seed(7)
    words.expansions("a cat", 4, 0, 1)
    assert words.expansions("a dog", 4, 0, 1) == first
    others = [
        words.expansions("a dog", 4, 0, 2),
        tuple(t.replace("cat", "dog") for t in words.expansions("a cat", 4, 0, 1)),
    ]
    assert first not in others


@pytest.mark.parametrize("line", [ATTRIBUTE_LINE, TEMPLATE_LINE, PLAIN_LINE])
def test_the_lines_that_errors_show_are_right(tmp_path: Path, line: str) -> None:
    others = {
        ATTRIBUTE_LINE: [AROUND.replace("[, as {style}]", "")],
        TEMPLATE_LINE: [SIZE],
        PLAIN_LINE: [SIZE, STYLE, AROUND],
    }
    assert vocabulary(tmp_path, line, *others[line]).serves("a dog")


@pytest.mark.parametrize("entry", ["close-up", "Close up of"])
def test_plain_words_are_taken_apart_as_prompts_are(tmp_path: Path, entry: str) -> None:
    """Catches in incentive/vocabulary_file.py: an entry of several words, which no word of a prompt equals."""
    plain = json.dumps({"plain": ["a", "of", "dog", entry]})
    assert vocabulary(tmp_path, SIZE, '{"template": "a[ {size}] dog"}', plain).serves("close-up of a small dog")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[1]", "is neither"),
        ('{"attribute": "size"}', "is neither"),
        ('{"attribute": "the size", "words": ["a"]}', "'the size' is no name of an attribute"),
        ('{"attribute": "prompt", "words": ["a"]}', "'prompt' is no name of an attribute"),
        ('{"attribute": "size", "words": ["a"]}', "'size' is there twice"),
        ('{"attribute": "light", "words": []}', "'words' must be"),
        ('{"attribute": "light", "words": "bright"}', "'words' must be"),
        ('{"attribute": "light", "words": {"bright": []}}', "'words' must be"),
        ('{"attribute": "light", "words": ["!?"]}', "'words' must hold texts with letters"),
        ('{"attribute": "light", "words": ["Tiny"]}', "'tiny' is a word of 'size' and 'light'"),
        ('{"template": "{prompt}"}', "has no place for an attribute"),
        (
            '{"template": "{prompt}, {mood}"}',
            "{mood} in '{prompt}, {mood}' is no attribute of this file: there are size",
        ),
        ('{"template": "{prompt}[, {size}"}', "bracket"),
        ('{"template": "{prompt}[[ {size}]]"}', "bracket"),
        ('{"template": "{prompt}[, big]{size}"}', "names no attribute"),
        ('{"template": "{prompt} {size"}', "brace"),
        ('{"plain": "a"}', "'plain' must be"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    with naming("incentive.prompting.vocabulary"), pytest.raises(UserError) as error:
        vocabulary(tmp_path, SIZE, AROUND.replace("[, as {style}]", ""), line)
    assert str(error.value).startswith(f"incentive.prompting.vocabulary={tmp_path}/v.jsonl")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_without_attributes_or_templates_is_refused(tmp_path: Path) -> None:
    for lines, says in (([PLAIN], "has no attribute"), ([SIZE], "has no template"), ([""], "has no attribute")):
        with pytest.raises(UserError, match=f"{says}: write lines like"):
            vocabulary(tmp_path, *lines)
