"""An iteration's scores: images with NaN, encoders without an answer, and what all processes say together.

Catches in incentive/method.py: a bonus of 0 for an image without an embedding, or without one of a prediction.
Catches in functional/normalisation.py: a reward of weight 0 that removes images.
"""

import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Scores, Trajectory
from drift_pl.functional.advantage import AdvantageRule
from drift_pl.incentive.method import Method
from drift_pl.incentive.methods.gdpo import Gdpo
from drift_pl.incentive.shaping import DiversityShaping
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.training.scoring import GroupScoring


def trajectory_of(images: Tensor, predicted: Tensor | None = None) -> Trajectory:
    latents = images[None].repeat(3, 1, 1, 1, 1)
    return Trajectory(latents, torch.zeros(2, len(images)), (1, 2), 4, images, images, None, predicted)


def score(scoring: GroupScoring, trajectory: Trajectory, other: Sequence[float] = ()) -> Scores:
    """Of two groups, however many images they have, on this process or, with the counts of another, on two."""
    batch = PromptBatch(0, 0, ("a", "b"), (0, 1), len(trajectory.images_B3HW) // 2)
    scores = scoring(trajectory, batch, scoring.calls(batch))
    scoring.check(scores.counts_N + torch.tensor(other or [0.0]))
    return scores


def brightness(images: Tensor, prompts: Sequence[str]) -> Tensor:
    return images.mean((1, 2, 3))


def in_bytes(images: Tensor) -> Tensor:
    """An encoder that takes NaN for black, as every one that rounds does."""
    return torch.nn.functional.normalize((images * 255).round().byte().float().flatten(1) + 1, dim=-1)


def group_scoring(encoder: Callable[[Tensor], Tensor] = in_bytes, weight: float = 1.0) -> GroupScoring:
    return GroupScoring([WeightedReward("bright", brightness, weight)], encoder, lambda latents: latents)


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.rand(8, 3, 4, 4, generator=generator)


def broken(images: Tensor, *rows: int) -> Tensor:
    images = images.clone()
    images[list(rows), 0, 0] = torch.nan
    return images


def advantages(scores: Scores, trajectory: Trajectory, weight: float = 1.0, form: str = "terminal") -> Tensor:
    method = Method(shaping=DiversityShaping(weight, form=form), advantage_rule=AdvantageRule("group"))
    reward = method.effective_reward(scores)
    bonus = method.bonus(scores, trajectory)
    return method.advantage(scores, reward, method.selection(reward), bonus, torch.tensor(1.0), 1.0)


def test_images_with_nan_are_unscored_counted_and_warned_of_once(images: Tensor) -> None:
    scoring, trajectory = group_scoring(), trajectory_of(broken(images, 1, 6))
    says = r"^this iteration: 2 of 8 images are NaN and left out; .*policy\.dtype=bfloat16 .*reward/unscored_fraction"
    with pytest.warns(UserWarning, match=says) as caught:
        scores = score(scoring, trajectory)
    assert len(caught) == 1
    assert scores.valid_PG.tolist() == [[True, False, True, True], [True, True, False, True]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score(scoring, trajectory_of(broken(images, 0)))
    # the others are scored, embedded and rewarded as if it had not been there
    advantage = advantages(scores, trajectory)
    others = trajectory_of(images[[0, 2, 3, 4, 5, 7]])
    expected = advantages(score(scoring, others), others)
    torch.testing.assert_close(advantage[scores.valid_PG].view(2, 3), expected)
    assert torch.equal(advantage[~scores.valid_PG], torch.zeros(2))


def test_the_model_is_blamed_if_all_images_are_nan(images: Tensor) -> None:
    with pytest.raises(UserError, match=r"all 8 images are NaN; the model gives them.* try policy\.dtype=bfloat16"):
        score(group_scoring(), trajectory_of(broken(images, *range(8))))


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_an_image_without_an_embedding_gets_neither_bonus_nor_penalty(images: Tensor, weight: float) -> None:
    """A bonus of 0, centred, is a penalty: -0.75 of the advantage at weight 1."""

    def forgets_the_second(images: Tensor) -> Tensor:
        embedding = in_bytes(images)
        embedding[1] = torch.nan
        return embedding

    with pytest.warns(UserWarning, match=r"incentive\.shaping\.encoder returned NaN or infinity for 1 of 8 images"):
        scores = score(group_scoring(forgets_the_second), trajectory_of(images))
    plain = AdvantageRule("group")(scores.reward_PG, torch.ones(2, 4) > 0, None, torch.tensor(1.0), 0.01)
    advantage = advantages(scores, trajectory_of(images), weight)
    assert float(advantage[0, 1]) == float(plain[0, 1])
    torch.testing.assert_close(advantage.sum(1), torch.zeros(2), rtol=0, atol=1e-5)
    assert not torch.equal(advantage[0, [0, 2, 3]], plain[0, [0, 2, 3]])


def test_nor_does_a_step_without_an_embedding_of_its_prediction(images: Tensor) -> None:
    predicted = torch.stack([images.roll(1, 0), broken(images.flip(0), 1)])
    trajectory = trajectory_of(images, predicted)
    scores = score(group_scoring(), trajectory)
    plain = AdvantageRule("group")(scores.reward_PG, torch.ones(2, 4) > 0, None, torch.tensor(1.0), 0.01)
    advantage = advantages(scores, trajectory, form="per_step")
    assert float(advantage[1, 0, 1]) == float(plain[0, 1])
    assert float(advantage[0, 0, 1]) != float(plain[0, 1])
    assert advantage.isfinite().all()


def test_an_encoder_that_never_answers_is_refused(images: Tensor) -> None:
    with pytest.raises(UserError, match=r"incentive\.shaping\.encoder returned NaN or infinity for all of 8 images"):
        score(group_scoring(lambda images: in_bytes(images) * torch.nan), trajectory_of(images))


def test_a_process_without_a_score_goes_on_if_another_has_some(images: Tensor) -> None:
    """The other process's counts are added as the exchange adds them."""
    silent = WeightedReward("mute", lambda images, prompts: torch.full((8,), torch.nan))
    mute = GroupScoring([silent], None, lambda latents: latents)
    assert score(mute, trajectory_of(images), (8, 8, 8, 3)).reward_PG.isnan().all()
    with pytest.raises(UserError, match="the reward 'mute' scored none of 16 images"):
        score(mute, trajectory_of(images), (8, 8, 8, 0))
    with pytest.warns(UserWarning, match="8 of 16 images are NaN"):
        scores = score(group_scoring(), trajectory_of(broken(images, *range(8))), (8, 8, 8, 8))
    assert torch.equal(advantages(scores, trajectory_of(images)), torch.zeros(2, 4))
    with pytest.raises(UserError, match="all 16 images are NaN"):
        score(group_scoring(), trajectory_of(broken(images, *range(8))), (8, 0, 0, 0))


def test_gdpo_does_not_hear_a_reward_without_a_weight() -> None:
    reward = torch.tensor([[1.0, 2.0, 4.0]])
    mute = torch.tensor([[torch.nan, 1.0, torch.inf]])
    scores = Scores(reward, {"one": reward, "mute": mute}, None)
    expected = Gdpo({"one": 1.0}).reward(Scores(reward, {"one": reward}, None))
    assert torch.equal(Gdpo({"one": 1.0, "mute": 0.0}).reward(scores), expected)


def test_states_of_broken_images_take_no_part_in_the_update(images: Tensor) -> None:
    """0 x NaN is NaN: a process with no other image would spoil the gradient of all."""
    whole = trajectory_of(images)
    assert whole.without_nan() is whole
    mended = trajectory_of(broken(images, 2)).without_nan()
    assert mended.latents_KBCHW.isfinite().all()
    assert mended.final_BCHW.isfinite().all()
    assert torch.equal(mended.latents_KBCHW[:, 3:], whole.latents_KBCHW[:, 3:])
