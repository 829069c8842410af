"""Evaluation and pictures of a model some of whose images are NaN, and measures that answer wrongly.

Catches in training/callbacks/diversity.py: NaN rows in the metrics of the training groups.
Catches in evaluation/measures.py: NaN rows in the drift.
Catches in evaluation/evaluator.py: NaN rows in the metrics of a prompt.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_evaluator import BrightOnes, brightness, evaluate, make_evaluator, model_of, named, word_count
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.evaluation.drawing import draw
from drift_pl.evaluation.metrics import GroupedMetric
from drift_pl.evaluation.sampling import SamplingPlan
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.scoring.rewards import WeightedReward

EXTRA = ("pairwise_ssim", "rke", "nearest_distance")


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    return torch.rand(6, 3, 16, 16, generator=generator)


def broken(images: Tensor, *rows: int) -> Tensor:
    images = images.clone()
    images[list(rows), 2] = torch.nan
    return images


def breaks(policy: StableDiffusion3Policy, monkeypatch: pytest.MonkeyPatch, *rows: int) -> None:
    """Rows of every batch decode to NaN."""
    decode = policy.decode
    monkeypatch.setattr(policy, "decode", lambda latents: broken(decode(latents), *rows))


def test_values_are_those_of_the_other_images(images: Tensor, tiny_evaluation_encoder: Path) -> None:
    rewards = [WeightedReward("brightness", brightness)]
    measures = [word_count, BrightOnes()]
    evaluator = make_evaluator(tiny_evaluation_encoder, rewards=rewards, metrics=named(*EXTRA), measures=measures)
    ours = evaluator.measure(broken(images, 1, 4), "a red cat")
    theirs = evaluator.measure(images[[0, 2, 3, 5]], "a red cat")
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)
    one_left = evaluator.measure(broken(images, 0, 1, 2, 3, 4), "a red cat")
    assert one_left.keys() == theirs.keys()
    assert [name for name, value in one_left.items() if value.isfinite()] == ["reward", "reward/brightness"]


def test_they_are_counted_and_warned_of_and_have_no_part_in_drift(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = make_evaluator(tiny_evaluation_encoder, metrics=named("fid", "kid"))
    base = evaluate(tiny_policy, evaluator)
    breaks(tiny_policy, monkeypatch, 2)
    with pytest.warns(UserWarning, match=r"^evaluation: 3 of 12 images are NaN .*policy\.dtype=bfloat16") as caught:
        result = evaluate(tiny_policy, evaluator, reference=base.embedding_PSD)
    assert len(caught) == 1
    assert result.embedding_PSD is not None
    assert result.embedding_PSD.isnan().any(-1).sum() == 3
    assert result.overall["kid"] == pytest.approx(0, abs=1e-6)  # the others are the base's own
    assert all(math.isfinite(value) for value in result.means().values())


def test_the_model_is_blamed_if_all_are(
    tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(tiny_policy, monkeypatch, 0, 1, 2, 3)
    with pytest.raises(UserError, match=r"evaluation: all 12 images are NaN; the model gives them"):
        evaluate(tiny_policy, make_evaluator(tiny_evaluation_encoder))
    plan = SamplingPlan(2, 1.0, "")
    with pytest.raises(UserError, match=r"the base model's pictures: all 4 images are NaN"):
        draw(model_of(tiny_policy), plan, "sky", 4, 0, 4)


def test_pictures_are_counted(tiny_policy: StableDiffusion3Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks(tiny_policy, monkeypatch, 1)
    with pytest.warns(UserWarning, match=r"the (base|tuned) model's pictures: 1 of 3 images are NaN") as caught:
        draw(model_of(tiny_policy), SamplingPlan(2, 1.0, ""), "sky", 3, 0, 4)
    assert len(caught) == 2


class Says(GroupedMetric):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return 1 / 0 if self.answer is None else self.answer


def test_a_list_of_values_is_taken(images: Tensor, tiny_evaluation_encoder: Path) -> None:
    evaluator = make_evaluator(
        tiny_evaluation_encoder, measures=[lambda images, prompts: {"words": [2.5]}], metrics={"mine": Says([3])}
    )
    values = evaluator.measure(images, "sky")
    assert float(values["words"]) == 2.5
    assert float(values["mine"]) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measures": [lambda images, prompts: 1 / 0]}, "the measure '<lambda>' failed: ZeroDivisionError"),
        ({"measures": [lambda images, prompts: [1.0]]}, r"returned list: return a dict, name -> torch tensor"),
        ({"measures": [lambda images, prompts: {"a": 0.5}]}, r"'<lambda>', 'a', returned \(\), not one number"),
        ({"measures": [lambda images, prompts: {"a": None}]}, r"'<lambda>', 'a', returned NoneType"),
        (
            {"measures": [lambda images, prompts: {"reward": [1.0]}]},
            "returned 'reward', which .*: call it e.g. 'my_reward'",
        ),
        ({"measures": [lambda images, prompts: {"vendi": [1.0]}]}, "returned 'vendi', which the evaluation"),
        ({"measures": [lambda images, prompts: {"a": [1.0]}] * 2}, "returned 'a', which the evaluation or another"),
        ({"measures": [lambda images, prompts: {"a b\nc": [1.0]}]}, r"returned the name 'a b\\nc': use letters"),
        ({"measures": [lambda images, prompts: {"": [1.0]}]}, "returned the name '': use letters"),
        ({"metrics": {"mine": Says(None)}}, "the metric 'mine' failed: ZeroDivisionError"),
        ({"metrics": {"mine": Says(torch.ones(2))}}, r"the metric 'mine' returned \(2,\), not one number"),
        ({"lpips": lambda images: torch.ones(3)}, r"evaluation\.lpips returned \(3,\), not the distance of each pair"),
        ({"lpips": lambda images: 1 / 0}, r"evaluation\.lpips failed: ZeroDivisionError"),
        ({"encoder": lambda images: images}, r"evaluation\.encoder returned \(6, 3, 16, 16\), not one row"),
        ({"encoder": lambda images: images.flatten(1) * math.nan}, r"evaluation\.encoder returned NaN .* all of 6"),
    ],
)
def test_what_answers_wrongly_is_named(
    changes: dict[str, Any], message: str, images: Tensor, tiny_evaluation_encoder: Path
) -> None:
    """Catches in evaluation/measures.py: a measure's `reward` takes the place of the reward in all tables."""
    with pytest.raises(UserError, match=message):
        dataclasses.replace(make_evaluator(tiny_evaluation_encoder), **changes).measure(images, "sky")


class Counts(BrightOnes):
    def counts(self, images_S3HW: Tensor, prompt: str) -> Tensor:
        return torch.ones(len(images_S3HW), 2)


def test_a_filter_that_counts_wrongly_is_named(images: Tensor, tiny_evaluation_encoder: Path) -> None:
    with pytest.raises(UserError, match=r"the measure 'Counts' returned \(6, 2\), not whether each of 6 images counts"):
        make_evaluator(tiny_evaluation_encoder, measures=[Counts()]).measure(images, "sky")


def test_names_that_come_and_go_are_refused(tiny_policy: StableDiffusion3Policy, tiny_evaluation_encoder: Path) -> None:
    def sometimes(images: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        return {} if prompts == ["sky"] else {"words": torch.ones(1)}

    with pytest.raises(UserError, match="return words for some prompts only: return NaN"):
        evaluate(tiny_policy, make_evaluator(tiny_evaluation_encoder, measures=[sometimes]))


def test_nobody_changes_anothers_images(images: Tensor, tiny_evaluation_encoder: Path) -> None:
    """Every reward, encoder, distance and measure blackens what it is given, once it has looked."""

    def spoiling(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(images: Tensor, *rest: Any) -> Any:
            answer = call(images, *rest)
            images.zero_()
            return answer

        return wrapped

    class SpoilingEyes(BrightOnes):
        counts = staticmethod(spoiling(BrightOnes().counts))

    plain = make_evaluator(tiny_evaluation_encoder, measures=[word_count, BrightOnes()])
    rude = dataclasses.replace(
        plain,
        rewards=[dataclasses.replace(each, reward=spoiling(each.reward)) for each in plain.rewards],
        heldout_rewards=[dataclasses.replace(each, reward=spoiling(each.reward)) for each in plain.heldout_rewards],
        encoder=spoiling(plain.encoder),
        lpips=spoiling(plain.lpips),
        measures=[spoiling(word_count), SpoilingEyes()],
    )
    before, ours, theirs = images.clone(), rude.measure(images, "a cat"), plain.measure(images, "a cat")
    assert torch.equal(images, before)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0, equal_nan=True)
