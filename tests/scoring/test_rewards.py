"""Several rewards: the weighted sum, groups, plain functions, and failures that name the reward.

Catches in scoring/rewards.py: wrong prompts per group; groups interleaved; one NaN raises; all-infinite passes.
"""

from collections.abc import Callable

import pytest
import torch

from drift_pl.core.errors import UserError
from drift_pl.core.text_length import expect_prompts
from drift_pl.scoring.calls import finite_images
from drift_pl.scoring.protocol import move
from drift_pl.scoring.rewards import (
    WeightedReward,
    refuse_unscored,
    score_images,
    scored_counts,
    tasks_of,
)

IMAGES = torch.zeros(3, 3, 4, 4)
PROMPTS = ["a", "b", "c"]


def says(*scores: float) -> Callable[..., torch.Tensor]:
    return lambda images, prompts: torch.tensor(scores)


def broken(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    raise RuntimeError("out of ink")


def test_the_reward_is_the_weighted_sum_and_raw_scores_stay_raw() -> None:
    """Catches in scoring/rewards.py: weights of the judges ignored."""
    judges = [WeightedReward("beauty", says(1, 2, 3), 2.0), WeightedReward("size", says(10, 0, -10), -0.5)]
    total, by_reward = score_images(judges, IMAGES, PROMPTS)
    assert total.tolist() == [2 * 1 - 5, 2 * 2, 2 * 3 + 5]
    assert by_reward["beauty"].tolist() == [1, 2, 3]
    assert by_reward["size"].tolist() == [10, 0, -10]
    assert list(by_reward) == ["beauty", "size"]


def test_judges_see_the_images_and_the_prompts() -> None:
    seen = []

    def watch(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        seen.append((images, prompts))
        return images.mean((1, 2, 3)).double()

    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    total, _ = score_images([WeightedReward("mean", watch)], images, PROMPTS)
    assert torch.equal(seen[0][0], images)
    assert seen[0][1] == PROMPTS
    torch.testing.assert_close(total, images.mean((1, 2, 3)))
    assert total.dtype == torch.float32


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_image_that_one_judge_cannot_score_has_no_reward(value: float) -> None:
    """Catches in scoring/rewards.py: infinite scores enter the group."""
    judges = [WeightedReward("good", says(1, 2, 3)), WeightedReward("unsure", says(1, value, 1), 0.5)]
    total, by_reward = score_images(judges, IMAGES, PROMPTS)
    assert total[[0, 2]].tolist() == [1.5, 3.5]
    assert total[1].isnan()
    assert by_reward["good"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (broken, r"the reward 'mine' failed: RuntimeError: out of ink"),
        (says(1, 2), r"the reward 'mine' returned \(2,\), not one number for each of 3 images"),
        (lambda images, prompts: torch.zeros(3, 1), r"the reward 'mine' returned \(3, 1\), not one number"),
        (lambda images, prompts: [1.0, 2.0], r"the reward 'mine' returned \(2,\), not one number"),
    ],
)
def test_a_judge_that_fails_is_named(reward: Callable[..., object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_images([WeightedReward("fine", says(1, 2, 3)), WeightedReward("mine", reward)], IMAGES, PROMPTS)


class FromTheMean:
    """Distance of an image's brightness from its group's mean, plus the length of the group's prompt."""

    groupwise = True

    def __call__(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        bright = images.mean((2, 3, 4))
        return bright - bright.mean(1, keepdim=True) + torch.tensor([float(len(prompt)) for prompt in prompts])[:, None]


def test_a_groupwise_judge_sees_each_prompts_images_together(generator: torch.Generator) -> None:
    """Oracle: group by group by hand; image b belongs to group b // G."""
    images = torch.rand(6, 3, 4, 4, generator=generator)
    prompts = ["a"] * 3 + ["long"] * 3
    judges = [
        WeightedReward("far", FromTheMean(), 2.0),
        WeightedReward("size", lambda images, prompts: images[:, 0, 0, 0]),
    ]
    total, by_reward = score_images(judges, images, prompts, group_size=3)
    bright = images.mean((1, 2, 3))
    expected = torch.cat([bright[:3] - bright[:3].mean() + 1, bright[3:] - bright[3:].mean() + 4])
    torch.testing.assert_close(by_reward["far"], expected)
    torch.testing.assert_close(total, 2 * expected + images[:, 0, 0, 0])


def test_a_function_is_groupwise_by_an_attribute() -> None:
    def distinct(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        assert images.shape == (1, 3, 3, 4, 4)
        assert prompts == ["a"]
        return torch.tensor([[1.0, 2.0, 3.0]])

    distinct.groupwise = True  # type: ignore[attr-defined]
    assert WeightedReward("mine", distinct)(IMAGES, ["a"] * 3, 3).tolist() == [1, 2, 3]


@pytest.mark.parametrize("group_size", [None, 2])
def test_a_groupwise_judge_without_groups_is_named(group_size: int | None) -> None:
    message = rf"the reward 'mine' scores whole groups: 3 images need a group_size .*, not {group_size}"
    with pytest.raises(UserError, match=message):
        score_images([WeightedReward("mine", FromTheMean())], IMAGES, PROMPTS, group_size)


def test_a_groupwise_judge_that_returns_another_shape_is_named() -> None:
    def flat(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        return torch.zeros(images.shape[0] * images.shape[1])

    flat.groupwise = True  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"'mine' returned \(3,\), not one number for each of 1 x 3 images"):
        score_images([WeightedReward("mine", flat)], IMAGES, ["a"] * 3, 3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_judge_that_scores_no_image_stops_training_and_is_named(value: float) -> None:
    judges = [WeightedReward("fine", says(1, 2, 3)), WeightedReward("mute", says(value, value, value))]
    total, by_reward = score_images(judges, IMAGES, PROMPTS)
    assert total.isnan().all()
    with pytest.raises(UserError, match=r"the reward 'mute' scored none of 3 .* resume with ckpt_path=RUN_FOLDER"):
        refuse_unscored(judges, scored_counts(judges, by_reward, finite_images(IMAGES), PROMPTS))
    assert not by_reward["mute"].isfinite().any()


def test_two_judges_that_leave_no_image_with_a_reward_are_both_heard() -> None:
    """Each reward scores some image: the group is affected, no error is raised."""
    judges = [WeightedReward("one", says(1, torch.nan, torch.nan)), WeightedReward("two", says(torch.nan, 1, 1))]
    assert score_images(judges, IMAGES, PROMPTS)[0].isnan().all()


def test_a_prompt_that_names_other_rewards_is_not_shown_to_this_one() -> None:
    """By hand: a is scored by both, b by the first, c by the second; nobody failed.

    Catches in scoring/rewards.py: zeros for what a reward was not asked; the sum NaN where one was not asked; asked
    with the prompts of the others; not asked counted as failed.
    """
    seen = []

    def lengths(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        seen.append((images[:, 0, 0, 0].tolist(), prompts))
        return images[:, 0, 0, 0] * 10

    images = IMAGES + torch.tensor([1.0, 2.0, 3.0])[:, None, None, None]
    judges = [
        WeightedReward("tens", lengths, 2.0, left_out=frozenset("c")),
        WeightedReward("one", lambda images, prompts: torch.ones(len(prompts)), 0.5, left_out=frozenset("b")),
    ]
    total, by_reward = score_images(judges, images, PROMPTS)
    assert seen == [([1, 2], ["a", "b"])]
    assert total.tolist() == [20.5, 40, 0.5]
    assert by_reward["tens"].nan_to_num(-1).tolist() == [10, 20, -1]
    assert by_reward["one"].nan_to_num(-1).tolist() == [1, -1, 1]
    counts = scored_counts(judges, by_reward, finite_images(images), PROMPTS)
    assert counts.tolist() == [3, 3, 2, 2, 2, 2]
    refuse_unscored(judges, scored_counts(judges, by_reward, finite_images(images)[:1], ["b"]))
    assert tasks_of(judges, PROMPTS) == ((True, True), (True, False), (False, True))
    assert tasks_of(judges[:1], ["a", "b"]) == ((True,),)
    assert tasks_of([WeightedReward("all", lengths)], PROMPTS) == ()


def test_a_reward_of_groups_sees_the_groups_that_ask_for_it() -> None:
    """Catches in scoring/rewards.py: groups cut anew from the images that are left."""
    seen = []

    def places(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        seen.append((tuple(images.shape[:2]), prompts))
        return torch.arange(images.shape[1]).expand(images.shape[:2])

    places.groupwise = True  # type: ignore[attr-defined]
    judge = WeightedReward("places", places, left_out=frozenset("b"))
    score = judge(torch.zeros(6, 3, 4, 4), [*"aabbcc"], 2)
    assert seen == [((2, 2), ["a", "c"])]
    assert score.nan_to_num(-1).tolist() == [0, 1, -1, -1, 0, 1]


def test_a_reward_that_is_told_of_the_prompts_is_told_of_its_own() -> None:
    class Listener:
        told: list[str]

        def expect_prompts(self, prompts: list[str]) -> None:
            self.told = prompts

    listener = Listener()
    expect_prompts([WeightedReward("listens", listener, left_out=frozenset("b"))], PROMPTS)
    assert listener.told == ["a", "c"]


def test_what_holds_a_network_is_moved_and_a_function_need_not_be() -> None:
    network = torch.nn.Linear(2, 2)
    move(network, "meta")
    assert network.weight.device.type == "meta"
    move(broken, "meta")
    move(None, "meta")
