"""Groups that are split over processes: every process knows of all images what one process alone knows, bit for bit.

The processes are threads here, which meet where they exchange something.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Condition, Scores, Trajectory
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.training import parallel, whole_groups
from drift_pl.training.callbacks.diversity import DiversityMonitor
from drift_pl.training.datamodule import PromptDataModule
from drift_pl.training.experience import Experience
from drift_pl.training.parallel import gather_statistics
from drift_pl.training.reporting import IterationReport
from drift_pl.training.scoring import GroupScoring

CPU = torch.device("cpu")
GROUPS, SIZE, STEPS = 4, 6, 2
PROMPTS = tuple(f"prompt {number}" for number in range(GROUPS))


def batch_of(rank: int, world: int) -> PromptBatch:
    source = PromptDataModule(PROMPTS, GROUPS, SIZE, updates=2, seed=3, iterations_per_epoch=1)
    source.trainer = SimpleNamespace(global_rank=rank, world_size=world)
    return source.batch(0)


def on_processes(world: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[int], Any]) -> list[Any]:
    """`work(rank)` of each process; `gather` joins what they give it."""
    place, meeting = threading.local(), threading.Barrier(world, timeout=30)
    given: list[Any] = [None] * world

    def gather(part: Tensor) -> Tensor:
        given[place.rank] = part
        meeting.wait()
        joined = torch.stack(given)
        meeting.wait()
        return joined

    def run(rank: int) -> Any:
        place.rank = rank
        return work(rank)

    monkeypatch.setattr(whole_groups, "gather", gather)
    with ThreadPoolExecutor(world) as threads:
        return list(threads.map(run, range(world)))


def brightness(images: Tensor, prompts: Sequence[str]) -> Tensor:
    return images.mean((1, 2, 3)) + torch.tensor([float(prompt[-1]) for prompt in prompts])


def redness(images: Tensor, prompts: Sequence[str]) -> Tensor:
    return (images[:, 0] - images[:, 2]).mean((1, 2))


def pixels(images: Tensor) -> Tensor:
    """An encoder in half precision."""
    return images.flatten(1).half()


def colours(images: Tensor, prompts: Sequence[str]) -> Tensor:
    """Categories, in double precision."""
    return images.mean((2, 3)).double()


SCORING = GroupScoring(
    [WeightedReward("bright", brightness, 2.0), WeightedReward("red", redness)],
    pixels,
    decode=lambda latents: latents,
    categories=colours,
    monitor=lambda images: images.flatten(1),
)


@pytest.fixture
def whole(generator: torch.Generator) -> Trajectory:
    """Of all images of the iteration; one has NaN."""
    images = torch.rand(GROUPS * SIZE, 3, 4, 4, generator=generator)
    images[7, 1, 2] = torch.nan
    predicted = torch.rand(STEPS, GROUPS * SIZE, 3, 4, 4, generator=generator)
    latents = torch.rand(STEPS + 1, GROUPS * SIZE, 3, 4, 4, generator=generator)
    return Trajectory(latents, torch.zeros(STEPS, len(images)), (1, 2), 4, latents[-1], images, None, predicted)


def rows(trajectory: Trajectory, samples: Sequence[int]) -> Trajectory:
    """The images with these numbers."""
    index = torch.tensor(samples)
    latents = trajectory.latents_KBCHW[:, index]
    images, predicted = trajectory.images_B3HW[index], trajectory.predicted_KBCHW[:, index]
    return Trajectory(latents, trajectory.log_prob_KB[:, index], (1, 2), 4, latents[-1], images, None, predicted)


def scores_of(trajectory: Trajectory, batch: PromptBatch) -> Scores:
    with SCORING.calls(batch) as calls:
        return SCORING(rows(trajectory, batch.samples), batch, calls)


@pytest.mark.parametrize("world", [3, 4, 5, 12])
def test_every_process_has_the_scores_of_one(whole: Trajectory, monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    """Rewards, embeddings, predictions and categories, in their own types; NaN stays where it is.

    Catches in training/whole_groups.py: padding among the rows; another type after the exchange.
    Catches in training/scoring.py: rewards called with another image's prompt.
    """
    expected = scores_of(whole, batch_of(0, 1))
    assert not expected.of_all
    found = on_processes(world, monkeypatch, lambda rank: scores_of(whole, batch_of(rank, world)))
    for scores in found:
        assert scores.of_all
        for name, value in vars(expected).items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(getattr(scores, name), value, rtol=0, atol=0, equal_nan=True)
        for name, score_PG in expected.by_reward.items():
            torch.testing.assert_close(scores.by_reward[name], score_PG, rtol=0, atol=0, equal_nan=True)


def test_whole_groups_exchange_nothing(whole: Trajectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_groups, "gather", None)
    assert scores_of(whole, batch_of(1, 2)).reward_PG.shape == (2, SIZE)


@pytest.mark.parametrize("world", [3, 5])
def test_statistics_of_all_are_nobodys_sum(whole: Trajectory, monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    """Every process has all of them, and would add them up.

    Catches in training/parallel.py: of split groups added up over processes, or without a diversity.
    """
    monkeypatch.setattr(parallel, "gather_vectors", lambda vector_N, device: vector_N[None])
    one = scores_of(whole, batch_of(0, 1))
    expected = gather_statistics(one, one.reward_PG, one.valid_PG, 2, CPU)
    monkeypatch.setattr(parallel, "gather_vectors", None)
    for scores in on_processes(world, monkeypatch, lambda rank: scores_of(whole, batch_of(rank, world))):
        found = gather_statistics(scores, scores.reward_PG, scores.valid_PG, 2, CPU)
        assert torch.equal(found.batch_std, expected.batch_std)
        assert found.median_group_std == expected.median_group_std
        assert found.diversity == expected.diversity > 0
        assert found.counts_U.tolist() == expected.counts_U.tolist() == [11, 12]
        assert found.scored_N.tolist() == [24, 23, 23, 23, 23, 23]


def test_an_update_takes_its_own_images(whole: Trajectory) -> None:
    """Process 1 of 4 has the second halves of groups 0 and 2; the last image of group 2 was filtered out.

    Catches in training/experience.py: of split groups the first advantages, whichever images the process has.
    """
    batch = batch_of(1, 4)
    kept = torch.ones(GROUPS, SIZE, dtype=torch.bool)
    kept[2, 5] = False
    advantage = torch.arange(24.0).view(GROUPS, SIZE)
    condition = VariedCondition(Condition(torch.zeros(6, 5, 6), None, torch.full((5,), 6)))
    factor = torch.stack([advantage, 2 * advantage])
    experience = Experience(batch, rows(whole, batch.samples), condition, kept, advantage, factor)
    assert batch.samples == [3, 4, 5, 15, 16, 17]
    assert experience.advantage_KB.tolist() == [[3, 4, 5, 15, 16, 17]] * 2
    assert experience.divergence_KB.tolist() == [[3, 4, 5, 15, 16, 17], [6, 8, 10, 30, 32, 34]]
    assert experience.counted_B.tolist() == [True] * 5 + [False]
    assert [share.tolist() for share in experience.shares(2)] == [[0, 1, 2], [3, 4, 5]]


def test_the_monitor_measures_split_groups(whole: Trajectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings of whole groups, as on one process; LPIPS over the pairs of a group that are on one process.

    Catches in training/callbacks/diversity.py: parts of groups weighed equally.
    """

    def distance(images: Tensor) -> Tensor:
        return torch.cdist(images.flatten(1), images.flatten(1))

    def reported(rank: int, world: int) -> IterationReport:
        batch, report = batch_of(rank, world), IterationReport()
        images = whole.images_B3HW[batch.samples]
        DiversityMonitor(distance).observe_iteration(report, scores_of(whole, batch), images, batch)
        return report

    expected = reported(0, 1).reduce(CPU)
    totals = [report._totals for report in on_processes(5, monkeypatch, lambda rank: reported(rank, 5))]
    for total in totals:
        for name in ("diversity/pairwise_distance", "diversity/vendi"):
            assert float(total[name][0] / total[name][1]) == pytest.approx(expected[name], rel=1e-12)
    # 0 and 1, 2 and 3, 4 and 5 (6 is alone), 7 and 8 without 7, 9 to 11; and the same of the second step
    places = [(0, 1), (2, 3), (4, 5), (9, 10), (9, 11), (10, 11)]
    pairs = [(one + step, other + step) for step in (0, 12) for one, other in [*places, (7, 8)] if one + step != 7]
    summed, count = torch.stack([total["diversity/pairwise_lpips"] for total in totals]).sum(0).tolist()
    table = distance(whole.images_B3HW)
    assert summed / count == pytest.approx(float(torch.stack([table[pair] for pair in pairs]).mean()), rel=1e-5)
    assert len(pairs) == 13
