"""What all reward methods share: a table, identity where they change nothing, and arguments that are checked."""

from typing import Any

import pytest
import torch

from drift_pl.core.errors import UserError
from drift_pl.core.registry import find, names
from drift_pl.core.types import Scores
from drift_pl.incentive.methods.protocol import RewardMethod


def scores_of(generator: torch.Generator) -> Scores:
    """Two groups of six images with everything that a method may read."""
    return Scores(
        torch.rand(2, 6, generator=generator),
        {"main": torch.rand(2, 6, generator=generator)},
        torch.nn.functional.normalize(torch.randn(2, 6, 8, generator=generator), dim=-1),
        category_PGC=torch.rand(2, 6, 5, generator=generator),
    )


def test_the_base_changes_nothing(generator: torch.Generator) -> None:
    scores, advantage, method = scores_of(generator), torch.randn(2, 6, generator=generator), RewardMethod()
    assert not method.needs_embeddings
    assert not method.needs_categories
    assert torch.equal(method.reward(scores), scores.reward_PG)
    assert torch.equal(method.advantage(advantage, scores), advantage)
    assert method.divergence(scores, (0, 1), 4) is None


@pytest.mark.parametrize(
    ("name", "embeddings", "categories", "changed"),
    [
        ("gardo", True, False, {"advantage", "divergence"}),
        ("diverse_grpo", True, False, {"reward", "divergence"}),
        ("inverse_probability", True, False, {"reward"}),
        ("dra", True, False, {"reward"}),
        ("max_at_k", False, True, {"reward"}),
    ],
)
def test_each_method_changes_what_its_paper_changes(
    name: str, embeddings: bool, categories: bool, changed: set[str], generator: torch.Generator
) -> None:
    """And asks for what it reads: it does without the rest."""
    method, scores, advantage = find("method", name)(), scores_of(generator), torch.randn(2, 6, generator=generator)
    assert (method.needs_embeddings, method.needs_categories) == (embeddings, categories)
    read = Scores(
        scores.reward_PG,
        scores.by_reward,
        scores.embedding_PGD if embeddings else None,
        category_PGC=scores.category_PGC if categories else None,
    )
    reward, factor = method.reward(read), method.divergence(read, (1, 2, 3), 8)
    assert reward.dtype == torch.float32
    assert torch.equal(reward, read.reward_PG) == ("reward" not in changed)
    assert torch.equal(method.advantage(advantage, read), advantage) == ("advantage" not in changed)
    assert (factor is None) == ("divergence" not in changed)
    assert factor is None or (factor.shape == (3, 2, 6) and factor.dtype == torch.float32)


@pytest.mark.parametrize("name", ["diverse_grpo", "inverse_probability", "dra", "max_at_k"])
def test_an_image_without_a_reward_or_an_embedding_leaves_its_group(name: str, generator: torch.Generator) -> None:
    """NaN stays NaN, and the others get what they would get without it; the other group does not notice."""
    whole = scores_of(generator)
    reward, embedding, category = whole.reward_PG.clone(), whole.embedding_PGD.clone(), whole.category_PGC.clone()
    reward[0, 1] = torch.nan
    embedding[0, 4] = category[0, 4] = torch.nan
    method, kept = find("method", name)(), [0, 2, 3, 5]
    ours = method.reward(Scores(reward, {}, embedding, category_PGC=category))
    assert ours[0].isnan().tolist() == [False, True, False, False, True, False]
    alone = Scores(reward[:1, kept], {}, embedding[:1, kept], category_PGC=category[:1, kept])
    # a sum of fewer numbers is rounded in another order
    torch.testing.assert_close(ours[:1, kept], method.reward(alone), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[1], method.reward(whole)[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", names("method"))
def test_groups_of_copies_and_groups_without_images_give_no_nan_to_others(name: str) -> None:
    """Group 0: copies; group 1: nothing valid; group 2: one valid image."""
    valid = torch.tensor([[True] * 4, [False] * 4, [True, False, False, False]])
    reward = torch.where(valid, 1.0, torch.nan)
    embedding = torch.where(valid[..., None], torch.ones(3, 4, 3) / 3**0.5, torch.nan)
    scores = Scores(reward, {}, embedding, category_PGC=torch.where(valid[..., None], 0.5, torch.nan))
    method = find("method", name)()
    assert torch.equal(method.reward(scores).isfinite(), valid)
    assert method.advantage(torch.ones(3, 4), scores).isfinite().all()
    factor = method.divergence(scores, (0,), 4)
    assert factor is None or factor.isfinite().all()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("gardo", {"gated_share": 1.5}, "incentive.args.gated_share=1.5: give a number from 0 to 1"),
        ("gardo", {"auxiliary": "aesthetic"}, r"incentive.args.auxiliary=aesthetic: give a list, \[aesthetic\]"),
        ("diverse_grpo", {"beta": -1}, "incentive.args.beta=-1: give a number of at least 0"),
        ("diverse_grpo", {"sigma": 0}, "incentive.args.sigma=0: give a number of at least 0.01"),
        ("diverse_grpo", {"clusters": 1}, "incentive.args.clusters=1: give a whole number of at least 2"),
        ("diverse_grpo", {"early_steps": 2.5}, "incentive.args.early_steps=2.5: give a whole number of at least 0"),
        ("inverse_probability", {"clusters": 2.5}, "incentive.args.clusters=2.5: give a whole number of at least 2"),
        ("inverse_probability", {"sigma": "wide"}, "incentive.args.sigma='wide': give a number of at least 0.01"),
        ("inverse_probability", {"floor": float("nan")}, "incentive.args.floor=nan: give a number from 0 to 1"),
        ("max_at_k", {"reward_weight": -0.5}, "incentive.args.reward_weight=-0.5: give a number of at least 0"),
    ],
)
def test_an_argument_out_of_range_is_one_line_with_what_would_work(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        find("method", name)(**arguments)
