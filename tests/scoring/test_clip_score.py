"""CLIPScore, against torchmetrics' and the CLIPModel's own logits."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.multimodal import clip_score
from transformers import CLIPModel, CLIPProcessor

from drift_pl.core.errors import UserError
from drift_pl.core.registry import find
from drift_pl.scoring.clip_score import ClipScore

# short enough for the model: torchmetrics truncates the end token of long texts
PROMPTS = ["a red cat", "sky", "a red cat", "blue"]


class FeaturesAsTensors:
    """A CLIPModel as torchmetrics expects it: transformers 5 wraps the features in an output object."""

    def __init__(self, folder: Path) -> None:
        self.model = CLIPModel.from_pretrained(folder).eval()
        self.config = self.model.config

    def to(self, device: torch.device) -> "FeaturesAsTensors":
        return self

    @torch.no_grad()
    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        return self.model.get_image_features(pixel_values).pooler_output

    @torch.no_grad()
    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model.get_text_features(input_ids, attention_mask).pooler_output


def images(generator: torch.Generator, count: int, side: int = 16) -> Tensor:
    """Images whose values are exact in 8 bits."""
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).float() / 255


def cosines(folder: Path, batch: Tensor, prompts: list[str]) -> Tensor:
    """logits_per_image / exp(logit_scale) of CLIPModel on PIL images, its diagonal."""
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    pictures = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in batch]
    inputs = processor(text=prompts, images=pictures, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits_per_image.diagonal() / model.logit_scale.exp()


@pytest.mark.parametrize("side", [16, 24])
def test_a_score_is_torchmetrics_clip_score_of_one_image(
    tiny_preference: Path, side: int, generator: torch.Generator
) -> None:
    """Theirs is clipped at zero; ours is not, because a flat reward gives no signal.

    Catches in scoring/clip_score.py: logit scale for 100; normaliser ignored.
    """
    batch = images(generator, 4, side)
    processor = CLIPProcessor.from_pretrained(tiny_preference)
    scores = ClipScore(str(tiny_preference))(batch, PROMPTS)
    compared = 0
    for image, prompt, score in zip(batch, PROMPTS, scores, strict=True):
        theirs = clip_score(
            (image * 255).round().byte(),
            prompt,
            model_name_or_path=lambda: (FeaturesAsTensors(tiny_preference), processor),
        )
        assert max(float(score), 0) == pytest.approx(float(theirs), abs=1e-4)
        compared += float(score) > 0
    assert compared
    torch.testing.assert_close(scores, 100 * cosines(tiny_preference, batch, PROMPTS), rtol=0, atol=1e-4)
    assert scores.dtype == torch.float32
    assert scores.unique().numel() == 4  # rows could not be swapped unseen


@pytest.mark.parametrize(("normaliser", "factor"), [(1.0, 100.0), (30.0, 100 / 30), (100.0, 1.0)])
def test_the_normaliser_chooses_among_the_fields_scales(
    tiny_preference: Path, normaliser: float, factor: float, generator: torch.Generator
) -> None:
    """torchmetrics: 100 cos; flow_grpo: 100 cos / 30; Flow-Factory: cos."""
    batch = images(generator, 4)
    scores = ClipScore(str(tiny_preference), normaliser=normaliser)(batch, PROMPTS)
    torch.testing.assert_close(scores, factor * cosines(tiny_preference, batch, PROMPTS), rtol=0, atol=1e-4)


def test_scores_do_not_depend_on_the_batch_on_earlier_calls_or_on_autocast(
    tiny_preference: Path, generator: torch.Generator
) -> None:
    batch = images(generator, 4).requires_grad_()
    together = ClipScore(str(tiny_preference))(batch, PROMPTS)
    judge = ClipScore(str(tiny_preference), batch_size=3)
    alone = torch.cat([judge(batch[row : row + 1], PROMPTS[row : row + 1]) for row in (3, 2, 1, 0)]).flip(0)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ClipScore(str(tiny_preference))(batch, PROMPTS)
    assert torch.equal(inside, together)
    assert not together.requires_grad
    assert judge.to("cpu") is judge


def test_it_is_a_reward_by_name_and_says_what_cannot_be_loaded() -> None:
    assert find("reward", "clip_score") is ClipScore
    with pytest.raises(UserError, match=r"rewards\.args\.pretrained=\./nowhere"):
        ClipScore("./nowhere")
