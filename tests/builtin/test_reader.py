"""The attribute reader on images of known content, and coverage against sets computed by hand."""

import math

import pytest
import torch

from drift_pl.builtin.reader import AttributeMeasure, AttributeReader, coverage, evenness, shows
from drift_pl.builtin.world import ATTRIBUTES, render, sample_scenes, scenes_of

READER = AttributeReader()


def generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_right_on_renders() -> None:
    scenes = sample_scenes(600, generator())
    reading = READER(render(scenes))
    right = torch.stack([reading.attributes[name] == scenes.attributes[name] for name in ATTRIBUTES]).all(0)
    assert (right & reading.readable_B).double().mean() >= 0.99


def test_unreadable_on_noise_blends_flat_colour_and_foreign_colours() -> None:
    first, second = render(sample_scenes(200, generator(1))), render(sample_scenes(200, generator(2)))
    noise, flat = torch.rand(50, 3, 32, 32), torch.rand(50, 3, 1, 1).expand(-1, -1, 32, 32)
    assert READER(0.5 * (first + second)).readable_B.double().mean() < 0.05
    assert not READER(noise).readable_B.any()
    assert not READER(flat).readable_B.any()
    on_white = render(sample_scenes(50, generator(3), fixed={"background": "light"}))
    assert not READER(on_white * torch.tensor([0.2, 1.0, 0.5])[:, None, None]).readable_B.any()


def test_rejects_other_sizes_and_takes_none() -> None:
    with pytest.raises(ValueError, match="64"):
        READER(torch.zeros(1, 3, 64, 64))
    assert len(READER(torch.zeros(0, 3, 32, 32)).readable_B) == 0


def test_shows_needs_every_named_attribute() -> None:
    scenes = sample_scenes(8, generator(), fixed={"shape": "cross", "colour": "red"})
    reading = READER(render(scenes))
    assert shows(reading, {"shape": 2, "colour": 0}).all()
    assert not shows(reading, {"shape": 2, "colour": 1}).any()


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        ([0, 1, 2, 0, 1, 2], 3, 1.0),
        ([1, 1, 1, 1], 5, 1 / 5),
        ([0, 0, 0, 1], 2, math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))) / 2),
        ([], 4, 0.0),
    ],
)
def test_evenness_by_hand(values: list[int], count: int, expected: float) -> None:
    assert evenness(torch.tensor(values, dtype=torch.long), count) == pytest.approx(expected)


def grid(shapes: int) -> torch.Tensor:
    """18 images: every colour equally often with each of 1 or 3 shapes; small, left, dark."""
    index = torch.arange(18)
    zero = torch.zeros(18, dtype=torch.long)
    table = {
        "shape": index // 6 % shapes,
        "colour": index % 6,
        "size": zero,
        "place": zero,
        "background": zero,
    }
    return render(scenes_of(table, generator()))


def test_coverage_of_a_hand_made_set() -> None:
    reading = READER(grid(3))
    named = {"size": 0, "place": 0, "background": 0}
    assert coverage(reading, shows(reading, named), named) == pytest.approx(1.0)
    # only the shape is open: uniform over 3; with one shape: 1/3; colour and shape open: mean of 1 and 1/3
    single = READER(grid(1))
    assert coverage(single, shows(single, named), named) == pytest.approx((1 + 1 / 3) / 2)
    # naming one shape of three leaves a share of 1/3, with the colours uniform
    asked = {**named, "shape": 2}
    assert coverage(reading, shows(reading, asked), asked) == pytest.approx(1 / 3)
    everything = dict.fromkeys(ATTRIBUTES, 0)
    assert math.isnan(coverage(reading, shows(reading, everything), everything))
    assert coverage(reading, torch.zeros(18, dtype=torch.bool), named) == 0.0


def test_measure_follows_the_protocol() -> None:
    images = torch.stack([grid(3), grid(1), torch.rand(18, 3, 32, 32)])
    prompts = ["a tiny thing on the left on a dark background", "a cross", "a cross"]
    measured = AttributeMeasure()(images, prompts)
    assert measured["alignment"].tolist() == [1.0, 0.0, 0.0]
    assert measured["coverage"].tolist() == pytest.approx([1.0, 0.0, 0.0])
    mixed = torch.cat([grid(3), torch.rand(2, 3, 32, 32)])
    assert AttributeMeasure().counts(mixed, "a circle").tolist() == [True] * 6 + [False] * 14
    with pytest.raises(ValueError, match="2 prompts"):
        AttributeMeasure()(images, prompts[:2])
