"""Several judges: the weighted sum, and failures that name the judge."""

from collections.abc import Callable

import pytest
import torch

from drift_pl.errors import UserError
from drift_pl.scoring.judges import Judge, score_images

IMAGES = torch.zeros(3, 3, 4, 4)
PROMPTS = ["a", "b", "c"]


def says(*scores: float) -> Callable[..., torch.Tensor]:
    return lambda images, prompts: torch.tensor(scores)


def broken(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    raise RuntimeError("out of ink")


def test_the_reward_is_the_weighted_sum_and_raw_scores_stay_raw() -> None:
    judges = [Judge("beauty", says(1, 2, 3), 2.0), Judge("size", says(10, 0, -10), -0.5)]
    total, by_judge = score_images(judges, IMAGES, PROMPTS)
    assert total.tolist() == [2 * 1 - 5, 2 * 2, 2 * 3 + 5]
    assert by_judge["beauty"].tolist() == [1, 2, 3]
    assert by_judge["size"].tolist() == [10, 0, -10]
    assert list(by_judge) == ["beauty", "size"]


def test_judges_see_the_images_and_the_prompts() -> None:
    seen = []

    def watch(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        seen.append((images, prompts))
        return images.mean((1, 2, 3)).double()

    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    total, _ = score_images([Judge("mean", watch)], images, PROMPTS)
    assert seen[0][0] is images
    assert seen[0][1] == PROMPTS
    torch.testing.assert_close(total, images.mean((1, 2, 3)))
    assert total.dtype == torch.float32


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_image_that_one_judge_cannot_score_has_no_reward(value: float) -> None:
    judges = [Judge("good", says(1, 2, 3)), Judge("unsure", says(1, value, 1), 0.5)]
    total, by_judge = score_images(judges, IMAGES, PROMPTS)
    assert total[[0, 2]].tolist() == [1.5, 3.5]
    assert total[1].isnan()
    assert by_judge["good"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (broken, r"the judge 'mine' failed: RuntimeError: out of ink"),
        (says(1, 2), r"the judge 'mine' returned \(2,\), not one number for each of 3 images"),
        (lambda images, prompts: torch.zeros(3, 1), r"the judge 'mine' returned \(3, 1\), not one number"),
        (lambda images, prompts: [1.0, 2.0, 3.0], r"the judge 'mine' returned list, not one number"),
    ],
)
def test_a_judge_that_fails_is_named(reward: Callable[..., object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_images([Judge("fine", says(1, 2, 3)), Judge("mine", reward)], IMAGES, PROMPTS)
