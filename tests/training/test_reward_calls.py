"""RewardCalls beside the sampling: the same calls and the same bits, whole groups, errors as they are without.

Catches in training/reward_calls.py: rewards are called after the sampling broke; a failure is seen at the end only;
sampling waits for the reward.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from drift_pl.builders.scoring import overlap
from drift_pl.config.loading import build_config
from drift_pl.core.errors import UserError
from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Trajectory
from drift_pl.incentive.prompting import PromptingRule
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.groups import GroupSampling, RolloutPlan, Window
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.stochastic import FlowSde
from drift_pl.scoring.http import ChatJudge, HttpJudge
from drift_pl.scoring.pickscore import PickScore
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.training.reward_calls import RewardCalls
from drift_pl.training.scoring import GroupScoring

PROMPTS = ("a", "b", "c", "d", "e")
SIZE = 3
REPEATED = [prompt for prompt in PROMPTS for _ in range(SIZE)]


class Watched:
    """Mean brightness plus the prompt's letter; notes every call."""

    def __init__(self, groupwise: bool = False) -> None:
        self.groupwise = groupwise
        self.calls: list[tuple[tuple[int, ...], tuple[str, ...]]] = []
        self.threads: set[str] = set()

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        self.calls.append((tuple(images.shape[: 1 + self.groupwise]), tuple(prompts)))
        self.threads.add(threading.current_thread().name.partition("_")[0])
        letters = torch.tensor([float(ord(prompt)) for prompt in prompts])
        return images.mean((-1, -2, -3)) + (letters[:, None] if self.groupwise else letters)


def score_all(
    parts: Sequence[Tensor], rewards: list[WeightedReward], groups: int = 0, thread: bool = False
) -> dict[str, Tensor]:
    with RewardCalls(rewards, REPEATED, SIZE, groups, thread) as calls:
        for part in parts:
            calls.take(part)
        return calls.scores(torch.cat(list(parts)))


@pytest.mark.parametrize("groups", [1, 2, 5, 9])
@pytest.mark.parametrize("micro_batch", [1, 2, 4, 15])
def test_calls_and_scores_are_those_without_a_thread(generator: torch.Generator, groups: int, micro_batch: int) -> None:
    """Whatever images a micro-batch holds: rewards get whole groups, in order.

    Catches in training/reward_calls.py: a group scored twice; parts of groups; groups before they are complete.
    """
    images = torch.rand(len(PROMPTS) * SIZE, 3, 4, 4, generator=generator)
    found = {}
    for thread in (False, True):
        each, grouped = Watched(), Watched(groupwise=True)
        rewards = [WeightedReward("each", each), WeightedReward("grouped", grouped, 0.5)]
        scores = score_all(images.split(micro_batch), rewards, groups, thread)
        found[thread] = (scores, each.calls, grouped.calls)
        assert each.threads == {"rewards" if thread else "MainThread"}
    (here, *calls_here), (there, *calls_there) = found[False], found[True]
    assert calls_here == calls_there
    assert here.keys() == there.keys() == {"each", "grouped"}
    assert all(torch.equal(here[name], there[name]) for name in here)
    counts = [min(groups, 5 - first) for first in range(0, 5, groups)]
    assert [shape for shape, _ in calls_there[0]] == [(count * SIZE,) for count in counts]
    assert [shape for shape, _ in calls_there[1]] == [(count, SIZE) for count in counts]
    letters = torch.tensor([float(ord(prompt)) for prompt in PROMPTS]).repeat_interleave(SIZE)
    torch.testing.assert_close(here["each"], images.mean((1, 2, 3)) + letters)
    torch.testing.assert_close(here["grouped"], here["each"])


def test_all_groups_at_once_is_one_call(generator: torch.Generator) -> None:
    reward = Watched()
    score_all(torch.rand(15, 3, 2, 2, generator=generator).split(4), [WeightedReward("one", reward)])
    assert reward.calls == [((15,), tuple(prompt for prompt in PROMPTS for _ in range(SIZE)))]


def test_the_next_images_come_while_a_reward_is_called() -> None:
    """The first group's reward waits for what happens only after `take` has come back."""
    sampled_more, timed_out = threading.Event(), []

    def slow(images: Tensor, prompts: Sequence[str]) -> Tensor:
        timed_out.append(not sampled_more.wait(10))
        return images.mean((1, 2, 3))

    images = torch.rand(15, 3, 2, 2)
    with RewardCalls([WeightedReward("slow", slow)], REPEATED, SIZE, 1, True) as calls:
        calls.take(images[:3])
        calls.take(images[3:])
        sampled_more.set()
        assert torch.equal(calls.scores(images)["slow"], images.mean((1, 2, 3)))
    assert timed_out == [False] * 5


class Broken:
    """Fails at the second group; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        self.calls += 1
        if "b" in prompts:
            raise ConnectionError("no answer")
        return images.mean((1, 2, 3))


def test_a_failing_reward_ends_the_iteration_as_it_does_without_a_thread() -> None:
    messages = []
    for thread in (False, True):
        with pytest.raises(UserError, match="'broken' failed: ConnectionError: no answer") as caught:
            score_all(torch.rand(15, 3, 2, 2).split(3), [WeightedReward("broken", Broken())], 1, thread)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_sampling_ends_at_the_first_images_after_a_reward_has_failed() -> None:
    calls = RewardCalls([WeightedReward("broken", Broken())], REPEATED, SIZE, 1, True)
    images = torch.rand(3, 3, 2, 2)
    with calls:
        calls.take(images)
        calls.take(images)
        calls._begun[1].exception(timeout=10)
        with pytest.raises(UserError, match="no answer"):
            calls.take(images)
    assert len(calls._begun) == 2


def test_what_was_not_begun_when_the_sampling_broke_never_is() -> None:
    begun, go_on, reward = threading.Event(), threading.Event(), Watched()

    def slow(images: Tensor, prompts: Sequence[str]) -> Tensor:
        begun.set()
        go_on.wait(10)
        return reward(images, prompts)

    calls = RewardCalls([WeightedReward("slow", slow)], REPEATED, SIZE, 1, True)
    calls.take(torch.rand(9, 3, 2, 2))
    begun.wait(10)
    with pytest.raises(MemoryError), calls:
        raise MemoryError
    go_on.set()
    calls._worker.shutdown(wait=True)
    assert len(reward.calls) == 1


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_a_reward_computes_in_the_precision_of_the_run(
    precision: torch.dtype | None, generator: torch.Generator
) -> None:
    """A linear layer under autocast: the thread has no autocast of its own. Nor does it know of no_grad.

    Catches in training/reward_calls.py: the thread without the run's autocast, or with gradients.
    """
    layer = torch.nn.Linear(12, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(1, 12, generator=generator))
    states = set()

    def linear(images: Tensor, prompts: Sequence[str]) -> Tensor:
        states.add((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return layer(images.flatten(1)).flatten()

    images, scores = torch.rand(15, 3, 2, 2, generator=generator), []
    for thread in (False, True):
        with torch.no_grad(), torch.autocast("cpu", dtype=precision or torch.bfloat16, enabled=precision is not None):
            scores.append(score_all(images.split(3), [WeightedReward("linear", linear)], 1, thread)["linear"])
    assert torch.equal(*scores)
    assert states == {(False, precision is not None)}


def test_an_iterations_scores_are_the_same_bits(
    tiny_policy: StableDiffusion3Policy, tiny_preference: object, tune: Callable[..., None]
) -> None:
    """Sampling and scoring as the training step calls them, with a network for a reward; groups straddle batches."""
    tune(tiny_policy)
    rollout = RolloutPlan(4, FlowSde(0.7), 1.0, "", Window(0, 3, 2))
    sample = GroupSampling(tiny_policy, PromptEncoder(tiny_policy), PromptingRule(), rollout, micro_batch=3)
    batch = PromptBatch(7, 0, ("a red cat", "sky", "sea"), groups=(0, 1, 2), group_size=4)
    rewards = [WeightedReward("pick", PickScore(str(tiny_preference)), 1.0)]
    found: list[tuple[Trajectory, Tensor]] = []
    for thread in (False, True):
        score = GroupScoring(rewards, None, tiny_policy.decode, groups_per_call=1, thread=thread)
        with score.calls(batch) as calls:
            _, trajectory = sample(batch, torch.device("cpu"), calls.take)
            found.append((trajectory, score(trajectory, batch, calls).reward_PG))
    (first, reward_PG), (second, other_PG) = found
    assert torch.equal(first.images_B3HW, second.images_B3HW)
    assert torch.equal(reward_PG, other_PG)
    assert reward_PG.shape == (3, 4)
    assert reward_PG.std() > 0


def test_a_thread_without_parts_to_score_is_refused() -> None:
    with pytest.raises(UserError, match=r"^trainer\.judge_thread=true .*set e\.g\. trainer\.judge_groups=1"):
        build_config([("trainer.judge_thread", "true")])
    assert build_config([("trainer.judge_thread", "true"), ("trainer.judge_groups", "2")]).trainer.judge_thread


@pytest.mark.parametrize(
    ("settings", "kinds", "expected"),
    [
        ({}, ["http"], (2, True)),  # 48 images of two groups are three requests of 16
        ({}, ["chat"], (1, True)),
        ({}, ["http", "chat"], (2, True)),
        ({}, ["http", "local"], (0, False)),
        ({"judge_groups": "3"}, ["http"], (3, True)),
        ({"judge_thread": "false"}, ["http"], (0, False)),
        ({"judge_thread": "true", "judge_groups": "1"}, ["local"], (1, True)),
    ],
)
def test_rewards_over_http_are_asked_beside_the_sampling(
    settings: dict[str, str], kinds: list[str], expected: tuple[int, bool]
) -> None:
    """Catches in builders/scoring.py: a network scored in other batches because a server is asked too."""
    made: dict[str, Any] = {
        "http": HttpJudge("http://127.0.0.1:1/score"),
        "chat": ChatJudge("http://127.0.0.1:1", "model"),
        "local": lambda images, prompts: torch.zeros(len(images)),
    }
    config = build_config([("prompts.group_size", "24"), *((f"trainer.{k}", v) for k, v in settings.items())])
    assert overlap(config, [WeightedReward(kind, made[kind]) for kind in kinds]) == expected


def test_servers_see_the_same_requests_beside_the_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies, and their order, of six groups of four images, eight to a request."""
    judge, seen = HttpJudge("http://127.0.0.1:1/score", batch_size=8), []

    def answer(body: Any, parts: Any) -> list[Any]:
        seen.extend(body(part) for part in parts)
        return [{"scores": [1.0] * len(part[1])} for part in parts]

    monkeypatch.setattr(judge.client, "post_all", answer)
    rewards, prompts = [WeightedReward("http", judge)], [f"prompt {number // 4}" for number in range(24)]
    groups, thread = overlap(build_config([("prompts.group_size", "4")]), rewards)
    images = torch.rand(24, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = []
    for plan in ((0, False), (groups, thread)):
        with RewardCalls(rewards, prompts, 4, *plan) as calls:
            for part in images.split(5):
                calls.take(part)
            calls.scores(images)
        found.append(list(seen))
        seen.clear()
    assert len(found[0]) == 3
    assert found[0] == found[1]
