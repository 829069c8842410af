"""The aesthetic predictor, against the published formula."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_judges import save_tiny_aesthetic_head
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from drift_pl.core.errors import UserError
from drift_pl.scoring.aesthetic import HEAD, HEAD_FILE, Aesthetic

PROMPTS = ["", "a red cat", "sky", "blue"]


def images(generator: torch.Generator, count: int, side: int = 24) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).float() / 255


def pil(image_3HW: Tensor) -> Image.Image:
    return Image.fromarray((image_3HW * 255).round().byte().permute(1, 2, 0).numpy())


def head_by_hand(path: Path, features: Tensor) -> Tensor:
    """W5 (W4 (W3 (W2 (W1 x + b1) + b2) + b3) + b4) + b5 with x = f / |f|, in float64."""
    weights = torch.load(path, weights_only=True)
    value = (features / features.square().sum(-1, keepdim=True).sqrt()).double()
    for number in (0, 2, 4, 6, 7):
        value = value @ weights[f"layers.{number}.weight"].double().T + weights[f"layers.{number}.bias"].double()
    return value[:, 0].float()


@pytest.mark.parametrize("normaliser", [1.0, 10.0])
def test_a_score_is_the_published_formula(
    tiny_preference: Path, tmp_path: Path, normaliser: float, generator: torch.Generator
) -> None:
    head = save_tiny_aesthetic_head(tmp_path / "head.pth", 16)
    batch = images(generator, 4)
    model, processor = CLIPModel.from_pretrained(tiny_preference).eval(), CLIPProcessor.from_pretrained(tiny_preference)
    inputs = processor(images=[pil(image) for image in batch], return_tensors="pt")
    with torch.no_grad():
        expected = head_by_hand(head, model.get_image_features(**inputs).pooler_output) / normaliser
    scores = Aesthetic(str(tiny_preference), head=str(head), normaliser=normaliser)(batch, PROMPTS)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
    assert scores.dtype == torch.float32
    spread = (scores[:, None] - scores[None]).abs() + torch.eye(4)
    assert spread.min() > 2e-5  # rows could not be swapped unseen


def test_a_model_of_the_package_clip_scores_as_itself(tmp_path: Path, generator: torch.Generator) -> None:
    """Oracle: clip.load's own preprocessing and encode_image. Images of its size, so that no resizing differs."""
    import clip
    from clip.model import CLIP

    with torch.random.fork_rng():
        torch.manual_seed(7)
        # weights pass through float16, like the published ones
        network = CLIP(32, 32, 2, 64, 8, 77, 49408, 64, 1, 1).half()
    torch.save(network.state_dict(), tmp_path / "ViT-tiny.pt")
    head = save_tiny_aesthetic_head(tmp_path / "head.pth", 32)
    batch = images(generator, 3, side=32)
    model, preprocess = clip.load(str(tmp_path / "ViT-tiny.pt"), device="cpu")
    with torch.no_grad():
        features = model.encode_image(torch.stack([preprocess(pil(image)) for image in batch]))
    judge = Aesthetic(str(tmp_path / "ViT-tiny.pt"), head=str(head))
    torch.testing.assert_close(judge(batch, PROMPTS[:3]), head_by_hand(head, features), rtol=0, atol=1e-5)
    assert judge(images(generator, 1, side=48), [""]).shape == (1,)


def test_the_head_may_be_safetensors_or_in_a_folder(
    tiny_preference: Path, tmp_path: Path, generator: torch.Generator
) -> None:
    batch = images(generator, 2)
    expected = Aesthetic(str(tiny_preference), head=str(save_tiny_aesthetic_head(tmp_path / "head.pth", 16)))(
        batch, PROMPTS[:2]
    )
    save_tiny_aesthetic_head(tmp_path / "head.safetensors", 16)
    for where in ({"head": str(tmp_path / "head.safetensors")}, {"head": str(tmp_path), "head_file": "head.pth"}):
        assert torch.equal(Aesthetic(str(tiny_preference), **where)(batch, PROMPTS[:2]), expected)


def test_scores_do_not_depend_on_the_batch_on_the_prompt_or_on_autocast(
    tiny_preference: Path, tmp_path: Path, generator: torch.Generator
) -> None:
    head = str(save_tiny_aesthetic_head(tmp_path / "head.pth", 16))
    batch = images(generator, 4).requires_grad_()
    judge = Aesthetic(str(tiny_preference), head=head)
    together = judge(batch, PROMPTS)
    in_parts = Aesthetic(str(tiny_preference), head=head, batch_size=3)(batch, PROMPTS[::-1])
    torch.testing.assert_close(in_parts, together, rtol=0, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(judge(batch, PROMPTS), together)
    assert not together.requires_grad
    assert judge.to("cpu") is judge
    assert not any(module.training for module in (judge.features, judge.head))


def test_what_does_not_fit_is_said_in_one_line(
    tiny_preference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"takes 768 features, and .* has 16"):
        Aesthetic(str(tiny_preference), head=str(save_tiny_aesthetic_head(tmp_path / "wide.pth", 768)))
    weights = torch.load(save_tiny_aesthetic_head(tmp_path / "head.pth", 16), weights_only=True)
    broken = {
        "unchained": {name: tensor for name, tensor in weights.items() if not name.startswith("layers.4")},
        "no-bias": {name: tensor for name, tensor in weights.items() if name != "layers.4.bias"},
        "stranger": {**weights, "norm.weight": torch.ones(1)},
        "empty": {},
        "wide-end": {name: tensor for name, tensor in weights.items() if not name.startswith("layers.7")},
    }
    for name, tensors in broken.items():
        torch.save(tensors, tmp_path / f"{name}.pth")
        with pytest.raises(UserError, match="rewards.args.head") as caught:
            Aesthetic(str(tiny_preference), head=str(tmp_path / f"{name}.pth"))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"rewards\.args\.head=\./nowhere"):
        Aesthetic(str(tiny_preference), head="./nowhere")
    with pytest.raises(UserError, match=r"rewards\.args\.pretrained=\./nowhere"):
        Aesthetic("./nowhere")
    asked = []
    monkeypatch.setattr(
        "drift_pl.scoring.weight_files.hf_hub_download",
        lambda repo, filename, revision: asked.append((repo, filename, revision)) or str(tmp_path / "head.pth"),
    )
    Aesthetic(str(tiny_preference), head_revision="abc")
    assert asked == [(HEAD, HEAD_FILE, "abc")]
