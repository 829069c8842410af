"""Rewrites of a prompt: which texts, how often, and what the draw depends on.

Catches in incentive/variants.py: iteration left out of the draw; the prompt itself no candidate; other prompts'
paraphrases; duplicates weigh double.
"""

from collections import Counter

import pytest
import torch
from scipy.stats import binomtest, chisquare

from drift_pl.core.errors import UserError
from drift_pl.core.types import Condition
from drift_pl.incentive.prompting import EmbeddingNoise
from drift_pl.incentive.variants import TextVariants

TEMPLATES = ("a photograph of {prompt}", "{prompt}, at night")
PARAPHRASES = {"a cat": ("a feline",), "a dog": ("a hound", "man's best friend")}


def test_candidates_are_the_prompt_the_templates_and_its_own_paraphrases() -> None:
    variants = TextVariants(TEMPLATES, PARAPHRASES)
    assert variants.candidates("a cat") == ("a cat", "a photograph of a cat", "a cat, at night", "a feline")
    assert variants.candidates("sky") == ("sky", "a photograph of sky", "sky, at night")
    assert TextVariants(paraphrases=PARAPHRASES).candidates("a dog") == ("a dog", "a hound", "man's best friend")
    assert TextVariants().candidates("sky") == ("sky",)


def test_the_same_text_twice_counts_once() -> None:
    variants = TextVariants(("{prompt}", "a {prompt}"), {"cat": ("cat", "a cat", "a feline")})
    assert variants.candidates("cat") == ("cat", "a cat", "a feline")


def test_other_braces_and_repeated_places_are_texts_like_any_other() -> None:
    variants = TextVariants(("{style}: {prompt}, {prompt} {0}",))
    assert variants.candidates("a {red} cat")[1] == "{style}: a {red} cat, a {red} cat {0}"


def test_candidates_are_drawn_uniformly() -> None:
    """Oracle: scipy's chi-squared test of 4,000 images of one prompt; it fails one sound generator in 10,000.

    Catches in incentive/variants.py: one draw per group; share turned round.
    """
    drawn = Counter(TextVariants(TEMPLATES, PARAPHRASES).rewrite(["a cat"] * 4000, 0, 0, range(4000)))
    assert set(drawn) == {"a cat", "a photograph of a cat", "a cat, at night", "a feline"}
    assert chisquare(list(drawn.values())).pvalue > 1e-4


@pytest.mark.parametrize("share", [0.25, 0.8])
def test_a_share_of_the_images_draws_and_the_others_keep_the_prompt(share: float) -> None:
    """Of three candidates one is the prompt: it stays with probability 1 - share + share / 3; the others are equal."""
    drawn = Counter(TextVariants(TEMPLATES, share=share).rewrite(["sky"] * 4000, 0, 0, range(4000)))
    assert binomtest(drawn["sky"], 4000, 1 - share + share / 3).pvalue > 1e-4
    assert chisquare([drawn["a photograph of sky"], drawn["sky, at night"]]).pvalue > 1e-4


def test_a_share_of_zero_is_the_prompt_itself() -> None:
    prompts = ["a cat", "a dog", "sky"] * 20
    assert TextVariants(TEMPLATES, PARAPHRASES, share=0.0).rewrite(prompts, 0, 0, range(60)) == prompts
    assert TextVariants().rewrite(prompts, 0, 0, range(60)) == prompts


def test_each_image_gets_a_text_of_its_own_prompt() -> None:
    variants = TextVariants(TEMPLATES, PARAPHRASES)
    prompts = ["a cat", "a dog", "sky"] * 50
    for prompt, text in zip(prompts, variants.rewrite(prompts, 1, 2, range(150)), strict=True):
        assert text in variants.candidates(prompt)


def test_a_draw_is_a_function_of_seed_iteration_and_sample_alone() -> None:
    variants = TextVariants(tuple(f"{{prompt}} {number}" for number in range(1000)))

    def texts(seed: int, iteration: int, samples: list[int]) -> list[str]:
        return variants.rewrite(["sky"] * len(samples), seed, iteration, samples)

    base = texts(7, 3, [10, 11, 12, 13])
    assert len(set(base)) > 1  # images of a group differ
    torch.manual_seed(5)
    assert texts(7, 3, [12, 10]) == [base[2], base[0]]  # neither the row, nor the batch, nor the global generator
    for other in (texts(8, 3, [10, 11, 12, 13]), texts(7, 4, [10, 11, 12, 13]), texts(7, 3, [20, 21, 22, 23])):
        assert other != base


def test_prompts_and_samples_belong_together() -> None:
    with pytest.raises(ValueError, match="shorter"):
        TextVariants().rewrite(["a", "b", "c"], 0, 0, [1, 2])


def test_a_template_without_a_place_is_refused_by_its_key() -> None:
    with pytest.raises(
        UserError, match=r"^incentive\.prompting\.templates: 'a photograph' has no \{prompt\}; .*e\.g\."
    ):
        TextVariants(("{prompt}, at night", "a photograph"))


def test_the_encoded_text_is_varied_by_the_noise_given_and_by_nothing_else(generator: torch.Generator) -> None:
    condition = Condition(
        torch.randn(3, 5, 8, generator=generator), torch.randn(3, 4, generator=generator), torch.full((5,), 8)
    )
    plain = TextVariants(TEMPLATES)(condition, 1, 2, [4, 5, 6])
    assert plain.at(1.0) is condition
    noise = EmbeddingNoise(0.4, anneal_iterations=10, pooled=True)
    ours, theirs = (rule(condition, 1, 2, [4, 5, 6]).at(0.8) for rule in (TextVariants(TEMPLATES, noise=noise), noise))
    assert torch.equal(ours.tokens_BLE, theirs.tokens_BLE)
    assert torch.equal(ours.pooled_BE, theirs.pooled_BE)
    assert not torch.equal(ours.tokens_BLE, condition.tokens_BLE)
