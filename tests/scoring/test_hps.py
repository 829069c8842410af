"""HPSv2, against a CLIPModel's own cosines and hpsv2's image preprocessing."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_judges import save_tiny_hps
from tiny_models import IMAGE_SIDE
from torch import Tensor
from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers import CLIPModel, CLIPProcessor

from drift_pl.core.errors import UserError
from drift_pl.scoring.hps import CHECKPOINT, HpsV2

PROMPTS = ["a red cat", "sky", "a red cat", "a very long prompt that goes far beyond what the model can read"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_hps(tmp_path_factory.mktemp("hps")) / "clip"


@pytest.fixture(scope="module")
def checkpoint(clip_folder: Path) -> Path:
    return clip_folder.parent / CHECKPOINT


def images(generator: torch.Generator, count: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).float() / 255


def pil(image_3HW: Tensor) -> Image.Image:
    return Image.fromarray((image_3HW * 255).round().byte().permute(1, 2, 0).numpy())


def hpsv2_pixels(image: Image.Image, side: int) -> Tensor:
    """The steps of hpsv2's transform of an image whose width is at least its height, from torchvision's classes."""
    assert image.width >= image.height
    normalised = Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    height = round(image.height * side / image.width)
    small = Compose([ToTensor(), Resize((height, side), InterpolationMode.BICUBIC, antialias=True)])(image)
    canvas = torch.zeros(3, side, side)
    top = (side - height) // 2
    canvas[:, top : top + height] = small
    return normalised(canvas)


def cosines(folder: Path, pixels: Tensor, prompts: list[str]) -> Tensor:
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    text = processor.tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return model(pixel_values=pixels, **text).logits_per_image.diagonal() / model.logit_scale.exp()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 24), (12, 30), (9, 16)])
@pytest.mark.parametrize("normaliser", [1.0, 0.25])
def test_a_score_is_the_cosine_of_an_image_prepared_as_in_hpsv2(
    clip_folder: Path, height: int, width: int, normaliser: float, generator: torch.Generator
) -> None:
    batch = images(generator, 4, height, width)
    pixels = torch.stack([hpsv2_pixels(pil(image), IMAGE_SIDE) for image in batch])
    scores = HpsV2(str(clip_folder), normaliser=normaliser)(batch, PROMPTS)
    expected = cosines(clip_folder, pixels, PROMPTS) / normaliser
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
    assert scores.dtype == torch.float32
    assert scores.unique().numel() == 4  # rows could not be swapped unseen


def test_a_tall_image_is_the_turned_wide_one(clip_folder: Path, generator: torch.Generator) -> None:
    """A tall image is padded left and right: the model sees the transposed pixels."""
    from drift_pl.scoring.hps import letterbox

    wide = images(generator, 2, 9, 20)
    torch.testing.assert_close(letterbox(wide.mT, 16), letterbox(wide, 16).mT, rtol=0, atol=1e-6)
    assert (letterbox(wide, 16)[..., :4, :] == 0).all()  # 9 * 16 / 20 is 7 rows, 9 of padding: 4 above and 5 below
    assert (letterbox(wide, 16)[..., 11:, :] == 0).all()
    assert letterbox(wide, 16)[..., 4:11, :].abs().sum() > 0


@pytest.mark.parametrize("place", ["file", "folder"])
def test_an_open_clip_checkpoint_scores_as_the_model_it_was_written_from(
    clip_folder: Path, checkpoint: Path, place: str, generator: torch.Generator
) -> None:
    batch = images(generator, 4, 20, 20)
    expected = HpsV2(str(clip_folder))(batch, PROMPTS)
    if place == "file":
        judge = HpsV2(str(checkpoint), processor=str(clip_folder))
    else:
        judge = HpsV2(str(checkpoint.parent), checkpoint=CHECKPOINT, processor=str(clip_folder))
    assert torch.equal(judge(batch, PROMPTS), expected)
    assert judge.model.config.vision_config.hidden_act == judge.model.config.text_config.hidden_act == "gelu"


def test_the_checkpoint_may_be_in_half_precision(clip_folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    tensors = torch.load(checkpoint, weights_only=True)["state_dict"]
    torch.save({"state_dict": {name: tensor.half() for name, tensor in tensors.items()}}, tmp_path / "half.pt")
    batch = torch.full((1, 3, 16, 16), 0.5)
    judge = HpsV2(str(tmp_path / "half.pt"), processor=str(clip_folder))
    assert judge.model.dtype == torch.float32
    full = HpsV2(str(clip_folder))(batch, ["sky"])
    torch.testing.assert_close(judge(batch, ["sky"]), full, rtol=0, atol=5e-3)


def test_scores_do_not_depend_on_the_batch_or_on_autocast(clip_folder: Path, generator: torch.Generator) -> None:
    batch = images(generator, 4, 20, 20).requires_grad_()
    together = HpsV2(str(clip_folder))(batch, PROMPTS)
    in_parts = HpsV2(str(clip_folder), batch_size=3)(batch, PROMPTS)
    torch.testing.assert_close(in_parts, together, rtol=0, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(HpsV2(str(clip_folder))(batch, PROMPTS), together)
    assert not together.requires_grad


class Stranger:
    """An object that a pickle may contain and weights may not."""


def test_what_cannot_be_loaded_is_said_in_one_line(clip_folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    tensors = torch.load(checkpoint, weights_only=True)["state_dict"]
    lacking = {name: tensor for name, tensor in tensors.items() if name != "visual.transformer.resblocks.1.ln_2.bias"}
    wrong = {**tensors, "visual.head.weight": torch.zeros(1)}
    cases = {
        "lacking.pt": ({"state_dict": lacking}, "vision_model.encoder.layers.1.layer_norm2.bias is missing"),
        "wrong.pt": ({"state_dict": wrong}, "not the weights of an open_clip ViT-H-14"),
        "list.pt": ([1, 2], "is not a dictionary of tensors"),
        "stranger.pt": ({"state_dict": Stranger()}, "holds more than tensors"),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=message) as caught:
            HpsV2(str(tmp_path / name), processor=str(clip_folder))
        assert "\n" not in str(caught.value)
        assert "rewards.args.pretrained" in str(caught.value)
    (tmp_path / "cut.pt").write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read as weights|is damaged"):
        HpsV2(str(tmp_path / "cut.pt"), processor=str(clip_folder))
    with pytest.raises(UserError, match=re.escape(f"holds no {CHECKPOINT}")):
        HpsV2(str(clip_folder), checkpoint=CHECKPOINT)
    with pytest.raises(UserError, match=r"rewards\.args\.pretrained=\./nowhere"):
        HpsV2("./nowhere")
    with pytest.raises(UserError, match=r"rewards\.args\.processor=\./nowhere"):
        HpsV2(str(checkpoint), processor="./nowhere")


def test_the_published_names_are_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch, clip_folder: Path) -> None:
    asked = []

    def download(repo: str, filename: str, revision: str | None) -> str:
        asked.append((repo, filename, revision))
        raise OSError("no network")

    monkeypatch.setattr("drift_pl.scoring.weight_files.hf_hub_download", download)
    with pytest.raises(UserError, match="could not be fetched from the hub"):
        HpsV2(revision="abc", processor=str(clip_folder))
    with pytest.raises(UserError, match="could not be fetched from the hub"):
        HpsV2(checkpoint="HPS_v2_compressed.pt", processor=str(clip_folder))
    with pytest.raises(UserError, match="could not be fetched from the hub"):
        HpsV2("xswu/HPSv2@abc", processor=str(clip_folder))
    pinned = ("xswu/HPSv2", CHECKPOINT, "abc")
    assert asked == [pinned, ("xswu/HPSv2", "HPS_v2_compressed.pt", None), pinned]
