"""PickScore, against the CLIPModel's own logits."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from drift_pl.core.errors import UserError
from drift_pl.scoring.clip_score import ClipScore
from drift_pl.scoring.pickscore import ClipReward, PickScore

PROMPTS = ["a red cat", "sky", "a red cat", "a very long prompt that goes far beyond what the model can read"]


def images(generator: torch.Generator, count: int, side: int = 16) -> torch.Tensor:
    """Images whose values are exact in 8 bits."""
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).float() / 255


def pil(image_3HW: torch.Tensor) -> Image.Image:
    return Image.fromarray((image_3HW * 255).round().byte().permute(1, 2, 0).numpy())


@pytest.mark.parametrize("side", [16, 24])
@pytest.mark.parametrize("normaliser", [26.0, 1.0])
def test_scores_are_the_models_own_logits(
    tiny_preference: Path, side: int, normaliser: float, generator: torch.Generator
) -> None:
    """Oracle: logits_per_image of CLIPModel on PIL images, its diagonal; 24 pixels are resized by the processor.

    Catches in scoring/pickscore.py: images go to the judge as floats, and are divided by 255 again; PickScore without
    its logit scale; prompts of the text cache in another order.
    """
    batch = images(generator, 4, side)
    model, processor = CLIPModel.from_pretrained(tiny_preference).eval(), CLIPProcessor.from_pretrained(tiny_preference)
    inputs = processor(
        text=PROMPTS, images=[pil(image) for image in batch], padding=True, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**inputs).logits_per_image
    scores = PickScore(str(tiny_preference), normaliser=normaliser)(batch, PROMPTS)
    torch.testing.assert_close(scores, logits.diagonal() / normaliser, rtol=0, atol=1e-5)
    assert (logits.diagonal() - logits.diagonal().flip(0)).abs().max() > 1e-3  # rows could not be swapped unseen


def test_scores_do_not_depend_on_the_batch(tiny_preference: Path, generator: torch.Generator) -> None:
    batch = images(generator, 4)
    together = PickScore(str(tiny_preference))(batch, PROMPTS)
    in_parts = PickScore(str(tiny_preference), batch_size=3)(batch, PROMPTS)
    torch.testing.assert_close(in_parts, together, rtol=0, atol=1e-6)
    judge = PickScore(str(tiny_preference))
    alone = torch.cat([judge(batch[row : row + 1], PROMPTS[row : row + 1]) for row in (3, 2, 1, 0)]).flip(0)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)  # text features are cached between calls


def test_the_processor_may_live_elsewhere(tiny_preference: Path, tiny_encoder: Path) -> None:
    """PickScore_v1 is published without a processor."""
    judge = PickScore(str(tiny_preference), processor=str(tiny_preference))
    assert judge(torch.zeros(1, 3, 16, 16), ["sky"]).shape == (1,)
    with pytest.raises(UserError, match=r"rewards\.args\.processor=\./nowhere"):
        PickScore(str(tiny_preference), processor="./nowhere")
    with pytest.raises(UserError, match=r"rewards\.args\.pretrained=\./nowhere"):
        PickScore("./nowhere")


def test_scores_are_float32_inside_autocast_and_carry_no_gradient(
    tiny_preference: Path, generator: torch.Generator
) -> None:
    """bfloat16 has steps of 0.004 near 0.85, the range of PickScore."""
    batch = images(generator, 2).requires_grad_()
    judge = PickScore(str(tiny_preference))
    outside = judge(batch, PROMPTS[:2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = PickScore(str(tiny_preference))(batch, PROMPTS[:2])
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)
    assert not outside.requires_grad
    assert not any(parameter.requires_grad for parameter in judge.model.parameters())


@pytest.mark.parametrize("judge", [PickScore, ClipScore])
def test_a_revision_reaches_the_model_and_a_processor_of_the_same_place_only(
    judge: type[ClipReward], tiny_preference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []
    for kind in (CLIPModel, CLIPProcessor):
        load = kind.from_pretrained

        def remember(
            location: str, revision: str | None, load: Any = load, name: str = kind.__name__, **options: Any
        ) -> CLIPModel | CLIPProcessor:
            asked.append((name, revision))
            return load(location, **options)

        monkeypatch.setattr(kind, "from_pretrained", remember)
    judge(str(tiny_preference), revision="v1")
    elsewhere = shutil.copytree(tiny_preference, tmp_path / "processor")
    judge(str(tiny_preference), processor=str(elsewhere), revision="v2")
    assert asked == [("CLIPModel", "v1"), ("CLIPProcessor", "v1"), ("CLIPModel", "v2"), ("CLIPProcessor", None)]
