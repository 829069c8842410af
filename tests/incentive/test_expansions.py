"""Expansions: which text an image gets, and files that lack prompts.

Catches in incentive/expansions.py: the same order in every group or turn; a text twice while others are left; the row
in place of the sample; a share of groups in place of images, or of the same images in every iteration.
"""

import json

import pytest
from scipy.stats import binomtest, chisquare

from drift_pl.core.errors import UserError, naming
from drift_pl.incentive.expansions import Expansions, TextsOnDemand, refuse_missing

TEXTS = {"sky": tuple(f"sky {number}" for number in range(6)), "sea": ("sea, calm",)}


def test_a_group_uses_each_text_before_any_again() -> None:
    for group, size, times in ((0, 4, {0, 1}), (1, 6, {1}), (2, 15, {2, 3})):
        samples = range(group * size, (group + 1) * size)
        drawn = Expansions((), TEXTS, group_size=size).rewrite(["sky"] * size, 3, 4, samples)
        assert {drawn.count(text) for text in TEXTS["sky"]} == times


def test_texts_are_equally_likely_and_orders_differ() -> None:
    """Oracle: scipy's chi-squared test; it fails one sound generator in 10,000."""
    rule = Expansions((), TEXTS, group_size=4)
    firsts = [rule.rewrite(["sky"], 0, iteration, [4 * iteration])[0] for iteration in range(1200)]
    assert chisquare([firsts.count(text) for text in TEXTS["sky"]]).pvalue > 1e-4
    groups = {tuple(rule.rewrite(["sky"] * 4, 0, 0, range(4 * group, 4 * group + 4))) for group in range(20)}
    assert len(groups) > 10


def test_a_text_is_a_function_of_seed_iteration_and_sample() -> None:
    rule = Expansions((), TEXTS, group_size=8)
    base = rule.rewrite(["sky"] * 16, 7, 3, range(16))
    assert rule.rewrite(["sky"] * 3, 7, 3, [14, 2, 9]) == [base[14], base[2], base[9]], "as on any process"
    assert base not in (rule.rewrite(["sky"] * 16, 8, 3, range(16)), rule.rewrite(["sky"] * 16, 7, 4, range(16)))


def test_a_second_turn_through_the_texts_has_an_order_of_its_own() -> None:
    rule = Expansions((), TEXTS, group_size=12)
    groups = [rule.rewrite(["sky"] * 12, 0, 0, range(12 * group, 12 * group + 12)) for group in range(4)]
    assert any(drawn[:6] != drawn[6:] for drawn in groups)


def test_a_share_of_the_images_keeps_the_prompt() -> None:
    """Image by image, in every iteration others."""
    rule = Expansions((), TEXTS, share=0.5, group_size=40)
    keeping = [[text == "sky" for text in rule.rewrite(["sky"] * 40, 0, each, range(40))] for each in range(2)]
    assert all(0 < sum(kept) < 40 for kept in keeping)
    assert keeping[0] != keeping[1]
    drawn = Expansions((), TEXTS, share=0.3, group_size=5).rewrite(["sky"] * 2000, 0, 0, range(2000))
    assert binomtest(drawn.count("sky"), 2000, 0.7).pvalue > 1e-4
    assert Expansions((), TEXTS, share=0.0, group_size=5).rewrite(["sky"] * 9, 0, 0, range(9)) == ["sky"] * 9
    assert Expansions((), TEXTS, group_size=5).rewrite(["sea", "land"], 0, 0, [0, 5]) == ["sea, calm", "land"]
    assert Expansions((), TEXTS).candidates("sea") == ("sea", "sea, calm")


def test_texts_on_demand_are_made_once_and_only_when_asked_for() -> None:
    asked: list[str] = []

    def make(prompt: str) -> tuple[str, ...]:
        asked.append(prompt)
        return (f"{prompt}!",)

    texts = TextsOnDemand(["a", "b"], make)
    assert (len(texts), list(texts), asked) == (2, ["a", "b"], [])
    assert (texts["a"], texts["a"], texts.get("c"), asked) == (("a!",), ("a!",), None, ["a"])


def test_a_file_that_lacks_prompts_is_refused_with_a_line_that_works() -> None:
    """Catches in incentive/expansions.py: a prompt with a quote in the line that is shown."""
    refuse_missing(TEXTS, ["sky", "sea", "sky"])
    with naming("incentive.prompting.paraphrases=p.jsonl"), pytest.raises(UserError) as error:
        refuse_missing(TEXTS, ["sky", 'a "quoted" word', "b", "b"])
    message = str(error.value)
    assert message.startswith(
        "incentive.prompting.paraphrases=p.jsonl lacks 2 of 3 prompts of prompts.train: add lines"
    )
    line = message[message.index("{") : message.rindex("}") + 1]
    assert json.loads(line)["prompt"] == 'a "quoted" word'
