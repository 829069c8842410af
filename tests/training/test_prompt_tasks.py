"""A run of several tasks: prompts that name their rewards, and what is computed over a batch of them."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Scores, Tasks, Trajectory
from drift_pl.functional.advantage import AdvantageRule
from drift_pl.incentive.method import Method
from drift_pl.incentive.methods.gardo import Gardo
from drift_pl.incentive.methods.gdpo import Gdpo
from drift_pl.scoring.rewards import WeightedReward, tasks_of
from drift_pl.training import parallel
from drift_pl.training.description import describe_iteration
from drift_pl.training.parallel import gather_statistics, of_groups
from drift_pl.training.reporting import IterationReport
from drift_pl.training.scoring import GroupScoring

CPU = torch.device("cpu")
PROMPTS = ("red", "sign", "dots", "text")


def redness(images: Tensor, prompts: Sequence[str]) -> Tensor:
    return images[:, 0].mean((1, 2))


def words(images: Tensor, prompts: Sequence[str]) -> Tensor:
    """In another unit."""
    return 1000 + 100 * images[:, 1].mean((1, 2))


REWARDS = [
    WeightedReward("red", redness, 2.0, left_out=frozenset({"sign", "text"})),
    WeightedReward("ocr", words, 1.0, left_out=frozenset({"red", "dots"})),
]
SCORING = GroupScoring(REWARDS, None, lambda latents: latents, tasks=tasks_of(REWARDS, PROMPTS))


def scores_of(images: Tensor, prompts: tuple[str, ...] = PROMPTS) -> Scores:
    trajectory = Trajectory(images[None], torch.zeros(0, len(images)), (), 4, images, images)
    batch = PromptBatch(0, 0, prompts, tuple(range(len(prompts))), len(images) // len(prompts))
    with SCORING.calls(batch) as calls:
        return SCORING(trajectory, batch, calls)


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    """Four groups of five."""
    return torch.rand(20, 3, 4, 4, generator=generator)


def test_statistics_of_a_batch_are_those_of_each_task(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: numpy's population standard deviations over the images of the groups of one task.

    Catches in training/parallel.py: one standard deviation for all tasks; medians over all groups.
    Catches in training/scoring.py: rewards that were not asked count as failed.
    """
    monkeypatch.setattr(parallel, "gather_vectors", lambda vector_N, device: vector_N[None])
    scores = scores_of(images)
    SCORING.check(scores.counts_N)
    assert scores.counts_N.tolist() == [20, 20, 10, 10, 10, 10]
    assert scores.tasks.task_P.tolist() == [0, 1, 0, 1]
    found = gather_statistics(scores, scores.reward_PG, scores.valid_PG, 2, CPU)
    reward = scores.reward_PG.double().numpy()
    red, ocr = reward[[0, 2]], reward[[1, 3]]
    assert ocr.min() > 900
    assert red.max() < 3
    expected = torch.tensor([[red.std()], [ocr.std()]] * 2)
    torch.testing.assert_close(found.batch_std.double(), expected, rtol=1e-4, atol=0)
    medians = torch.tensor([red.std(1).mean(), ocr.std(1).mean()])
    torch.testing.assert_close(found.median_group_std, medians, rtol=1e-5, atol=0)
    assert of_groups(found.median_group_std, scores.tasks).shape == (4, 1)


def test_two_processes_know_what_one_knows(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a task without a group on a process, too.

    Catches in training/parallel.py: own groups' tasks for the others'; the median of no group.
    """
    monkeypatch.setattr(parallel, "gather_vectors", lambda vector_N, device: vector_N[None])
    one = gather_statistics(whole := scores_of(images), whole.reward_PG, whole.valid_PG, 1, CPU)
    places = [[0, 2], [1, 3]]
    parts = [
        scores_of(images.view(4, 5, 3, 4, 4)[rows].flatten(0, 1), tuple(PROMPTS[row] for row in rows))
        for rows in places
    ]
    vectors: list[Tensor] = []
    monkeypatch.setattr(parallel, "gather_vectors", lambda vector_N, device: vectors.append(vector_N) or vector_N[None])
    for part in parts:
        gather_statistics(part, part.reward_PG, part.valid_PG, 1, CPU)
    monkeypatch.setattr(parallel, "gather_vectors", lambda vector_N, device: torch.stack(vectors[:2]))
    for part, rows in zip(parts, places, strict=True):
        found = gather_statistics(part, part.reward_PG, part.valid_PG, 1, CPU)
        torch.testing.assert_close(found.batch_std, one.batch_std[rows])
        torch.testing.assert_close(found.median_group_std, one.median_group_std)
        assert found.scored_N.tolist() == one.scored_N.tolist()


@pytest.mark.parametrize("std", ["group", "global", "kept", "none"])
def test_advantages_do_not_know_of_the_other_tasks(images: Tensor, std: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together as each by itself, whatever they are divided by.

    Catches in incentive/method.py: the floor of one task under the rewards of another.
    """
    monkeypatch.setattr(parallel, "gather_vectors", lambda vector_N, device: vector_N[None])
    method = Method(advantage_rule=AdvantageRule(std, clip=1e9))

    def advantages(images: Tensor, prompts: tuple[str, ...]) -> Tensor:
        scores = scores_of(images, prompts)
        known = gather_statistics(scores, scores.reward_PG, scores.valid_PG, 1, CPU)
        floor = of_groups(1e4 * known.median_group_std, scores.tasks)  # large enough to be the divisor
        return method.advantage(scores, scores.reward_PG, scores.valid_PG, None, known.batch_std, floor)

    together = advantages(images, PROMPTS)
    for rows in ([0, 2], [1, 3]):
        alone = advantages(images.view(4, 5, 3, 4, 4)[rows].flatten(0, 1), tuple(PROMPTS[row] for row in rows))
        torch.testing.assert_close(together[rows], alone)
    assert together.abs().min() > 0


def test_rewards_in_their_own_spread_leave_out_what_was_not_asked(images: Tensor) -> None:
    """Oracle: each group's own reward, standardised by numpy. Catches in incentive/methods/gdpo.py: NaN for a group
    that one reward was not asked for."""
    scores = scores_of(images)
    reward = scores.reward_PG.double().numpy()
    standard = (reward - reward.mean(1, keepdims=True)) / reward.std(1, keepdims=True)
    expected = torch.from_numpy(standard) * torch.tensor([2.0, 1, 2, 1])[:, None]
    ours = Gdpo({"red": 2.0, "ocr": 1.0}).reward(scores)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-3, atol=1e-4)


def test_gardo_ranks_images_among_their_own_task() -> None:
    """By hand. Groups 0 and 2 are one task, whose rewards are larger; the auxiliary reward was asked for group 1 only.

    Catches in incentive/methods/gardo.py: images ranked among those of other tasks.
    """
    reward = torch.tensor([[10.0, 11.0], [1.0, 2.0], [12.0, 13.0]])
    auxiliary = torch.tensor([[torch.nan] * 2, [0.2, 0.1], [torch.nan] * 2])
    asked = torch.tensor([[True, False], [True, True]])
    scores = Scores(reward, {"main": reward, "aux": auxiliary}, None, tasks=Tasks(torch.tensor([0, 1, 0]), asked))
    ours = Gardo(["aux"]).uncertainty(scores)
    torch.testing.assert_close(ours, torch.tensor([[0, 1 / 3], [-1, 1], [2 / 3, 1]]))


def test_a_group_without_two_rewards_has_no_spread(images: Tensor) -> None:
    """Oracle: the median of the other two. The base model's is a floor of the divisor for the whole run.

    Catches in training/parallel.py: groups that could not be scored as groups that score alike.
    """
    scored = redness(images, ()).view(4, 5)
    reward_PG = scored.clone()
    reward_PG[0], reward_PG[1, 1:] = torch.nan, torch.nan
    scores = replace(scores_of(images, ("red",) * 4), reward_PG=reward_PG, tasks=None)
    found = gather_statistics(scores, reward_PG, reward_PG.isfinite(), 2, CPU)
    torch.testing.assert_close(found.median_group_std, scored[2:].double().std(1, correction=0).mean())


def test_selection_is_described_by_the_rewards_that_it_saw() -> None:
    """Raw and effective rewards in opposite orders, as a method or a normalisation may have them.

    Catches in training/description.py: the best image of the raw rewards.
    """
    reward_PG = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    kept_PG = torch.tensor([[False, True, True, True]])
    experience, report = SimpleNamespace(kept_PG=kept_PG, advantage_PG=torch.zeros(1, 4)), IterationReport()
    scores = Scores(reward_PG, {}, None)
    describe_iteration(report, scores, 3 - reward_PG, None, None, experience, torch.zeros(4, 1, 2, 2))
    found = report.reduce(CPU)
    assert (found["selection/best_dropped"], found["reward/mean"]) == (1, 1.5)


def test_the_bonus_of_a_group_is_described_without_images_that_have_none() -> None:
    """By hand: 1 and 3 have a spread of 1, and 0 and 6 one of 3.

    Catches in training/description.py: a group in which an image has no embedding is left out.
    """
    experience = SimpleNamespace(kept_PG=torch.ones(2, 3, dtype=torch.bool), advantage_PG=torch.zeros(2, 3))
    scores, report = Scores(torch.zeros(2, 3), {}, None), IterationReport()
    bonus_PG = torch.tensor([[1.0, 3.0, torch.nan], [0.0, 6.0, torch.nan]])
    describe_iteration(report, scores, scores.reward_PG, bonus_PG, None, experience, torch.zeros(6, 1, 2, 2))
    assert report.reduce(CPU)["shaping/bonus_group_std"] == 2
