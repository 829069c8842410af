"""The rule-based reward, on images of known content."""

import pytest
import torch

from drift_pl.builtin.judge import AttributeJudge
from drift_pl.builtin.world import render, sample_scenes

SCENE = {"shape": "circle", "colour": "red", "size": "small", "place": "left", "background": "dark"}


def image_of(scene: dict[str, str]) -> torch.Tensor:
    return render(sample_scenes(1, torch.Generator().manual_seed(5), fixed=scene))


@pytest.mark.parametrize(
    ("prompt", "score"),
    [
        ("a circle", 1.0),
        ("a triangle", 0.0),
        ("a red triangle", 0.5),
        ("a small red triangle on the left on a light background", 0.6),
        ("a picture of an object", 1.0),
    ],
)
def test_the_score_is_the_share_of_the_named_attributes(prompt: str, score: float) -> None:
    """Catches in builtin/judge.py: all attributes or nothing."""
    assert AttributeJudge()(image_of(SCENE), [prompt]).tolist() == pytest.approx([score])


def test_every_image_is_held_to_its_own_prompt_and_broken_ones_score_nothing() -> None:
    """Catches in builtin/judge.py: unreadable images get a score."""
    other = {**SCENE, "shape": "cross", "colour": "blue"}
    images = torch.cat([image_of(SCENE), image_of(other), torch.rand(1, 3, 32, 32)])
    scores = AttributeJudge()(images, ["a blue cross", "a blue cross", "a picture of an object"])
    assert scores.tolist() == [0.0, 1.0, 0.0]
    assert scores.dtype == torch.float32
    with pytest.raises(ValueError, match="3 images for 2 prompts"):
        AttributeJudge()(images, ["a cross", "a cross"])
