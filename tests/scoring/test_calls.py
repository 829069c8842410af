"""What others write is called with images of its own, leaves torch as it was, and answers in the right shape.

Catches in scoring/calls.py: no copy of the images; gradients stay off; gradients on within a call; answers not copied.
Catches in scoring/rewards.py: images with NaN shown to a reward; a reward of weight 0 in the sum.
Catches in builders/scoring.py: gradients stay as a constructor leaves them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from drift_pl.builders.scoring import create_scorer
from drift_pl.config.schema import NamedConfig
from drift_pl.core.errors import UserError
from drift_pl.scoring.calls import as_numbers, finite_images, row_per_image
from drift_pl.scoring.encoders import CombinedEncoder
from drift_pl.scoring.protocol import move
from drift_pl.scoring.rewards import WeightedReward, refuse_unscored, score_images, scored_counts

PROMPTS = ["a", "b", "c", "d"]
NAN = torch.nan


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.rand(4, 3, 4, 4, generator=generator)


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    yield
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)


def brightness(images: Tensor, prompts: Sequence[str]) -> Tensor:
    return images.mean((1, 2, 3))


def darkens(images: Tensor, prompts: list[str]) -> Tensor:
    prompts.reverse()
    return images.sub_(0.5).mul_(2).mean((1, 2, 3))


def darkens_by_numpy(images: Tensor, prompts: Sequence[str]) -> Tensor:
    images.numpy()[:] = 0
    return brightness(images, prompts)


@pytest.mark.parametrize("rude", [darkens, darkens_by_numpy])
def test_what_a_reward_does_to_its_images_stays_with_it(
    rude: Callable[..., Tensor], images: Tensor, generator: torch.Generator
) -> None:
    before, heard = images.clone(), []

    def listening(images: Tensor, prompts: list[str]) -> Tensor:
        heard.append(prompts)
        return brightness(images, prompts)

    _, by_reward = score_images([WeightedReward("rude", rude), WeightedReward("next", listening)], images, PROMPTS)
    assert torch.equal(by_reward["next"], before.mean((1, 2, 3)))
    assert torch.equal(images, before)
    assert heard == [["a", "b", "c", "d"]]
    distances = CombinedEncoder([(lambda x: x.zero_().flatten(1) + 1, 1.0), (lambda x: x.flatten(1), 1.0)])
    assert torch.equal(distances(images)[:, 48:], torch.nn.functional.normalize(before.flatten(1)) * 0.5**0.5)


def test_gradients_are_off_within_a_call_and_on_after_it_whatever_it_did(images: Tensor) -> None:
    layer, states = torch.nn.Linear(48, 1), []

    def learns(images: Tensor, prompts: Sequence[str]) -> Tensor:
        states.append(torch.is_grad_enabled())
        return layer(images.flatten(1)).flatten()

    def switches_off(images: Tensor, prompts: Sequence[str]) -> Tensor:
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return brightness(images, prompts)

    def infers(images: Tensor, prompts: Sequence[str]) -> Tensor:
        with torch.inference_mode():
            return brightness(images, prompts) + 0

    assert not WeightedReward("learns", learns)(images, PROMPTS).requires_grad
    assert states == [False]
    WeightedReward("off", switches_off)(images, PROMPTS)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert not WeightedReward("infers", infers)(images, PROMPTS).is_inference()
    with torch.enable_grad():
        assert not row_per_image("encoder", lambda x: layer(x.flatten(1)), images).requires_grad


class SwitchesOff:
    """In its constructor, and when it is moved."""

    def __init__(self) -> None:
        torch.set_grad_enabled(False)

    def to(self, device: object) -> None:
        torch.set_grad_enabled(False)

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return brightness(images, prompts)


def test_what_is_made_and_moved_leaves_gradients_on() -> None:
    reward = create_scorer("reward", NamedConfig(name="test_calls:SwitchesOff"), "rewards.0")
    assert torch.is_grad_enabled()
    move(reward, "cpu")
    assert torch.is_grad_enabled()


def test_an_answer_is_a_copy(images: Tensor) -> None:
    """A reward may keep one buffer for all its answers."""
    buffer = torch.zeros(4)
    reward = WeightedReward("buffer", lambda images, prompts: buffer.add_(1))
    first = reward(images, PROMPTS)
    reward(images, PROMPTS)
    assert first.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "answer",
    [
        [1, 2.5, 3, 4],
        (1, 2.5, 3, 4),
        np.array([1, 2.5, 3, 4])[::-1][::-1],
        [torch.tensor(number) for number in (1, 2.5, 3, 4)],
        torch.tensor([1, 2.5, 3, 4], dtype=torch.float16),
    ],
    ids=["list", "tuple", "array", "tensors", "half"],
)
def test_numbers_are_taken_as_they_come(answer: Any, images: Tensor) -> None:
    score = WeightedReward("mine", lambda images, prompts: answer)(images, PROMPTS)
    assert score.tolist() == [1, 2.5, 3, 4]
    assert score.dtype == torch.float32


@pytest.mark.parametrize(
    ("answer", "returned"),
    [
        (None, "NoneType"),
        ("good", "str"),
        ({"score": 1}, "dict"),
        ([1.0, None, 2.0, 3.0], "list"),
        ([1.0, 2.0], r"\(2,\)"),
        (0.5, r"\(\)"),
        (torch.zeros(4, 1), r"\(4, 1\)"),
        (torch.zeros(4, dtype=torch.complex64), "complex numbers"),
        (torch.zeros(4, device="meta"), "a tensor without data"),
        (torch.ones(4).to_sparse(), "a sparse one"),
    ],
    ids=str,
)
def test_a_wrong_answer_is_told_what_is_wanted(answer: Any, returned: str, images: Tensor) -> None:
    message = (
        rf"^the reward 'mine' returned {returned}, not one number .* 4 images: return a torch tensor of shape \[4\]$"
    )
    with pytest.raises(UserError, match=message):
        WeightedReward("mine", lambda images, prompts: answer)(images, PROMPTS)


def with_nan(images: Tensor, *rows: int) -> Tensor:
    broken = images.clone()
    broken[list(rows), 1, 2, 3] = NAN
    return broken


def test_images_with_nan_are_not_shown_and_not_scored(images: Tensor) -> None:
    """Whatever rounds to bytes would score them as black ones."""
    seen = []

    def watch(images: Tensor, prompts: Sequence[str]) -> Tensor:
        seen.append((images.clone(), list(prompts)))
        return brightness(images, prompts)

    broken = with_nan(images, 1)
    assert finite_images(broken).tolist() == [True, False, True, True]
    total, by_reward = score_images([WeightedReward("mine", watch, 2.0)], broken, PROMPTS)
    ((shown, prompts),) = seen
    assert torch.equal(shown, images[[0, 2, 3]])
    assert prompts == ["a", "c", "d"]
    assert by_reward["mine"].isnan().tolist() == total.isnan().tolist() == [False, True, False, False]
    assert score_images([WeightedReward("mine", watch)], with_nan(images, 0, 1, 2, 3), PROMPTS)[0].isnan().all()
    assert len(seen) == 1, "there is nothing to be asked about"


def test_a_groupwise_reward_sees_the_others_of_the_group(images: Tensor) -> None:
    def from_the_mean(images: Tensor, prompts: Sequence[str]) -> Tensor:
        bright = images.mean((2, 3, 4))
        return bright - bright.mean(1, keepdim=True)

    from_the_mean.groupwise = True  # type: ignore[attr-defined]
    reward = WeightedReward("far", from_the_mean)
    both = torch.cat([images, images.flip(0)])
    score = reward(with_nan(both, 5), ["a"] * 4 + ["b"] * 4, 4)
    torch.testing.assert_close(score[:4], reward(images, ["a"] * 4, 4))
    others = [4, 6, 7]
    torch.testing.assert_close(score[others], reward(both[others], ["b"] * 3, 3))
    assert score[5].isnan()
    assert reward(with_nan(images, 0, 1, 2), ["a"] * 4, 4).isnan().all(), "one image is not a group"


def test_an_encoder_has_nothing_to_say_of_images_with_nan(images: Tensor) -> None:
    rows = row_per_image("evaluation.encoder", lambda x: x.flatten(1), with_nan(images, 2))
    assert torch.equal(rows[[0, 1, 3]], images.flatten(1)[[0, 1, 3]])
    assert rows[2].isnan().all()
    assert row_per_image("evaluation.encoder", lambda x: x.flatten(1), with_nan(images, 0, 1, 2, 3)).isnan().all()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.zeros(4), r"evaluation\.encoder returned \(4,\), not one row .* 4 images: .* shape \[4, D\]"),
        (torch.zeros(3, 8), r"returned \(3, 8\), not one row"),
        (torch.zeros(4, 2, 2), r"returned \(4, 2, 2\), not one row"),
        (torch.zeros(4, 0), r"returned \(4, 0\), not one row"),
        (None, "returned NoneType, not one row"),
        (torch.full((4, 8), NAN), "evaluation.encoder returned NaN or infinity for all of 4 images"),
    ],
)
def test_an_encoder_that_answers_wrongly_is_named(answer: Any, message: str, images: Tensor) -> None:
    with pytest.raises(UserError, match=message):
        row_per_image("evaluation.encoder", lambda x: answer, images)


def test_one_of_several_encoders_is_named(images: Tensor) -> None:
    encoder = CombinedEncoder([(lambda x: x.flatten(1), 1.0), (lambda x: x, 1.0)])
    with pytest.raises(UserError, match=r"incentive\.shaping\.encoders\.1 returned \(4, 3, 4, 4\)"):
        encoder(images)


def test_what_fails_is_named(images: Tensor) -> None:
    with pytest.raises(UserError, match=r"^evaluation\.encoder failed: ZeroDivisionError"):
        row_per_image("evaluation.encoder", lambda x: 1 / 0, images)


@pytest.mark.parametrize("value", [NAN, torch.inf])
def test_a_reward_without_a_weight_removes_nothing(value: float, images: Tensor) -> None:
    mute = torch.tensor([value, 1.0, value, value])
    watched = WeightedReward("watched", lambda images, prompts: mute[: len(images)], 0.0)
    judges = [WeightedReward("bright", brightness), watched]
    total, by_reward = score_images(judges, images, PROMPTS)
    assert torch.equal(total, brightness(images, PROMPTS))
    torch.testing.assert_close(by_reward["watched"], mute, equal_nan=True)
    unwatched = by_reward | {"watched": mute * NAN}
    refuse_unscored(judges, scored_counts(judges, unwatched, finite_images(images), PROMPTS))
    assert score_images(judges[1:], images, PROMPTS)[0].tolist() == [0, 0, 0, 0]
    assert score_images(judges[1:], with_nan(images, 1), PROMPTS)[0].isnan().tolist() == [False, True, False, False]


def test_numbers_of_other_kinds_are_read() -> None:
    assert as_numbers("x", torch.tensor([True, False]), "", "").dtype == torch.bool
    assert as_numbers("x", np.float32(2), "", "").item() == 2
