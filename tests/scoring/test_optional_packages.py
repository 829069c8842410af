"""DreamSim and the OCR reward, against stand-ins for their packages that check the calls.

Catches in scoring/ocr.py: channels in the wrong order; distance not cut off; replacements count twice; a text within
another.
Catches in scoring/dreamsim.py: an image alone loses its row; moved, not made anew; autocast reaches the model.
"""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from drift_pl.core.errors import UserError, naming
from drift_pl.core.registry import create
from drift_pl.scoring.dreamsim import DreamSim
from drift_pl.scoring.ocr import Ocr, asked_text, edit_distance, text_score


class Perceptual(torch.nn.Module):
    """Implements the one method in use: six channel means, mixed, from 224 x 224 inputs in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(36.0).view(6, 6).sin())
        self.batches: list[tuple[int, ...]] = []

    def embed(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        top, bottom = images.chunk(2, dim=2)
        embedding = torch.cat([top.mean((2, 3)), bottom.mean((2, 3))], dim=1) - 0.5
        return (embedding @ self.weight).squeeze()  # squeeze(): as the package does, an image alone loses its row


@pytest.fixture
def dreamsim(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A stand-in for the package `dreamsim`, that records calls of its one function."""
    asked: list[dict[str, Any]] = []

    def make(**arguments: Any) -> tuple[Perceptual, Any]:
        asked.append(arguments)
        if arguments["dreamsim_type"] == "nothing":
            raise KeyError("nothing")

        def preprocess(image: Image.Image) -> Tensor:
            resized = np.array(image.convert("RGB").resize((224, 224), Image.BICUBIC))
            return torch.from_numpy(resized).permute(2, 0, 1)[None] / 255

        return Perceptual(), preprocess

    module = ModuleType("dreamsim")
    module.dreamsim = make
    monkeypatch.setitem(sys.modules, "dreamsim", module)
    return asked


def test_a_dreamsim_embedding_is_the_packages_own_at_unit_length(
    dreamsim: list[dict[str, Any]], generator: torch.Generator, tmp_path: Any
) -> None:
    images = torch.randint(0, 256, (5, 3, 12, 20), generator=generator).float() / 255
    encoder = DreamSim(cache_dir=str(tmp_path), batch_size=2)
    assert dreamsim == [{"pretrained": True, "device": "cpu", "cache_dir": str(tmp_path), "dreamsim_type": "ensemble"}]
    embedding = encoder(images)
    assert encoder.model.batches == [(2, 3, 224, 224), (2, 3, 224, 224), (1, 3, 224, 224)]
    pictures = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in images]
    alone = torch.stack([encoder.model.embed(encoder.preprocess(picture)) for picture in pictures])
    torch.testing.assert_close(embedding, alone / alone.norm(dim=1, keepdim=True))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(5))
    assert not encoder.model.weight.requires_grad
    assert not encoder.model.training
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder(images), embedding)


def test_dreamsim_is_made_anew_for_another_device(dreamsim: list[dict[str, Any]]) -> None:
    encoder = DreamSim(kind="dino_vitb16")
    assert encoder.to("cpu") is encoder
    encoder.to("meta").to("meta")
    assert [asked["device"] for asked in dreamsim] == ["cpu", "meta"]
    assert {asked["dreamsim_type"] for asked in dreamsim} == {"dino_vitb16"}
    assert "~" not in dreamsim[0]["cache_dir"]


def test_a_dreamsim_that_cannot_be_loaded_is_refused(dreamsim: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match=r"^encoder\.args\.kind=nothing: .*encoder\.args\.cache_dir=.*'nothing'; with"):
        DreamSim(kind="nothing")


@pytest.mark.parametrize(
    ("package", "kind", "name"), [("dreamsim", "encoder", "dreamsim"), ("rapidocr", "reward", "ocr")]
)
def test_without_its_package_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, kind: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    says = rf"^rewards\.0 needs the package {package}: pip install 'drift-pl\[{name}\]'"
    with naming("rewards.0"), pytest.raises(UserError, match=says) as caught:
        create(kind, name, {})
    assert "\n" not in str(caught.value)


@pytest.fixture
def rapidocr(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for the package `rapidocr`: reads the text that the image's first red value stands for."""
    seen: dict[str, Any] = {"images": []}
    texts = {0: None, 1: ("HEL LO", "World"), 2: ("helo",), 3: ("entirely different words",)}

    class RapidOCR:
        def __init__(self, params: dict[str, Any] | None = None) -> None:
            seen["params"] = params
            if params == {"no.such": 1}:
                raise ValueError("no.such is not a setting\nsee the documentation")

        def __call__(self, image: Image.Image) -> SimpleNamespace:
            seen["images"].append(image)
            return SimpleNamespace(txts=texts[image.getpixel((0, 0))[0]])

    module = ModuleType("rapidocr")
    module.RapidOCR = RapidOCR
    monkeypatch.setitem(sys.modules, "rapidocr", module)
    return seen


def test_an_image_scores_by_the_letters_that_it_shows(rapidocr: dict[str, Any]) -> None:
    """Nothing read; everything, in two lines; one of five letters missing; other words; no text requested."""
    images = torch.zeros(5, 3, 4, 6)
    images[:, 0] = torch.tensor([0, 1, 2, 3, 1]).view(5, 1, 1) / 255
    prompts = ['a sign "hello"'] * 4 + ["a sign"]
    scores = Ocr(params={"a": 1})(images, prompts)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.tensor([0, 1, 0.8, 0, torch.nan]), equal_nan=True)
    assert rapidocr["params"] == {"a": 1}
    # a prompt without a text is not read; the image's mode determines which channel is red
    assert [(image.size, image.mode) for image in rapidocr["images"]] == [((6, 4), "RGB")] * 4
    assert rapidocr["images"][3].getpixel((5, 3)) == (3, 0, 0)


def test_a_reader_that_does_not_start_is_refused_in_one_line(rapidocr: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^rewards\.args\.params=.*cannot be started: no\.such is not a setting$"):
        Ocr(params={"no.such": 1})


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ('a sign that says "Open Late" above "Shut"', "Open Late"),
        ("a sign that says \u201cOpen\u201d", "Open"),
        ("a cat's bowl", None),
        ('an empty sign ""', None),
        ('a sign " "', None),
        ('an open "quote', None),
    ],
)
def test_the_text_asked_for_stands_between_the_first_double_quotes(prompt: str, text: str | None) -> None:
    assert asked_text(prompt) == text


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("kitten", "sitting", 3),  # textbook examples
        ("saturday", "sunday", 3),
        ("intention", "execution", 5),
        ("flaw", "lawn", 2),
        ("", "abc", 3),
        ("abc", "", 3),
        ("same", "same", 0),
        ("ab", "ba", 2),
    ],
)
def test_edit_distances_are_the_known_ones(one: str, other: str, distance: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == distance


@pytest.mark.parametrize(
    ("read", "wanted", "score"),
    [
        ("xx NEW\nyork yy", "New York", 1.0),  # contained in the recognized text
        ("nev york", "New York", 1 - 1 / 7),
        ("new york is far", "york isle", 1 - 6 / 8),  # newyorkisfar: three letters deleted, three replaced
        ("", "New York", 0.0),
        ("a much longer text", "cd", 0.0),  # the distance is capped at two
    ],
)
def test_the_score_is_the_share_of_letters_that_are_right(read: str, wanted: str, score: float) -> None:
    assert text_score(read, wanted) == pytest.approx(score)
