"""The pictogram reader and its measures."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from drift_pl.builtin.emoji.captions import parse
from drift_pl.builtin.emoji.pictures import load_pictures
from drift_pl.builtin.emoji.reader import PictogramMeasure, PictogramReader, shows
from drift_pl.builtin.emoji.things import STYLES, THINGS
from drift_pl.builtin.reader import effective_number

NAMES = list(THINGS)


def pictures_of(thing: str) -> Tensor:
    """A thing in every style, [S, 3, H, W]."""
    return load_pictures()[NAMES.index(thing)]


def half_pixel_shift(images_B3HW: Tensor) -> Tensor:
    """By half a pixel in both directions: the mean of four neighbours, which the reader's pictures do not hold."""
    return F.avg_pool2d(F.pad(images_B3HW, (0, 1, 0, 1), value=1.0), 2, 1)


def test_it_reads_every_picture_moved_by_half_a_pixel() -> None:
    """Catches in builtin/emoji/reader.py: thing and style swapped; templates without mirrored pictures."""
    flat_B3HW = load_pictures().flatten(0, 1)
    reading = PictogramReader()(half_pixel_shift(flat_B3HW.flip(3)))
    right = (reading.thing_B == torch.arange(len(flat_B3HW)) // len(STYLES)) & reading.readable_B
    right &= reading.style_B == torch.arange(len(flat_B3HW)) % len(STYLES)
    assert right.double().mean() > 0.98


def test_nothing_is_read_from_noise_and_little_from_blends() -> None:
    """Catches in builtin/emoji/reader.py: a threshold that lets blends pass."""
    generator, flat_B3HW = torch.Generator().manual_seed(0), load_pictures().flatten(0, 1)
    reader = PictogramReader()
    noise = torch.rand(200, 3, 32, 32, generator=generator)
    assert not reader(noise).readable_B.any()
    assert not reader(torch.rand(50, 3, 1, 1, generator=generator).expand(-1, -1, 32, 32)).readable_B.any()
    assert not reader(torch.ones(2, 3, 32, 32)).readable_B.any(), "a white page"
    blends = (flat_B3HW + flat_B3HW[torch.randperm(len(flat_B3HW), generator=generator)]) / 2
    assert reader(blends).readable_B.double().mean() < 0.35


def test_alignment_styles_and_things_by_hand() -> None:
    """Catches in builtin/emoji/reader.py: styles counted among off-prompt images; entropy without its exponential."""
    cats, dogs = pictures_of("cat"), pictures_of("dog")
    images = torch.cat([cats[:2], cats[:2], dogs[4:]])  # two styles twice, and a dog in a third
    found = PictogramMeasure()(images.expand(3, *images.shape), ["a cat", "an animal", "a glossy cat"])
    torch.testing.assert_close(found["alignment"], torch.tensor([0.8, 1.0, 0.4]))
    three = math.exp(-2 * 0.4 * math.log(0.4) - 0.2 * math.log(0.2))
    torch.testing.assert_close(found["styles"], torch.tensor([2.0, three, math.nan]), equal_nan=True)
    two = math.exp(-0.8 * math.log(0.8) - 0.2 * math.log(0.2))
    torch.testing.assert_close(found["things"], torch.tensor([math.nan, two, math.nan]), equal_nan=True)
    assert PictogramMeasure().counts(images, "a cat").tolist() == [True] * 4 + [False]


def test_no_image_on_prompt_has_no_styles() -> None:
    found = PictogramMeasure()(pictures_of("cat")[None], ["a beer"])
    assert [found[name].item() for name in ("alignment", "styles")] == [0.0, 0.0]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_k_equally_frequent_values_count_k(k: int) -> None:
    assert effective_number(torch.arange(k).repeat(4)) == pytest.approx(k)


def test_shows_wants_the_named_style() -> None:
    reading = PictogramReader()(pictures_of("apple"))
    assert shows(reading, parse("a flat apple")).tolist() == [False, False, True, False, False]


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        PictogramReader()(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="groups of images"):
        PictogramMeasure()(torch.zeros(1, 2, 3, 32, 32), [])
