"""The renderer against areas computed by hand, and the guarantees of the scene sampler."""

import math

import pytest
import torch

from drift_pl.builtin.world import (
    ATTRIBUTES,
    BACKGROUND_PALETTE,
    HEIGHT_RANGE,
    OBJECT_PALETTE,
    PLACE_JITTER,
    PLACE_X,
    RADIUS,
    RADIUS_JITTER,
    coverage_masks,
    differing_attributes,
    render,
    sample_scenes,
)

R = 8.0
AREAS = {
    "circle": math.pi * R**2,
    "triangle": 0.5 * (2 * R) * (1.8 * R),
    "cross": 2 * (2 * R) * (0.64 * R) - (0.64 * R) ** 2,
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ATTRIBUTES["shape"])
def test_area_of_each_shape_in_pixels(name: str) -> None:
    shape_B = torch.full((200,), ATTRIBUTES["shape"].index(name))
    centre_B2 = 15.0 + 2.0 * torch.rand(200, 2, generator=generator())
    area = coverage_masks(shape_B, centre_B2, torch.full((200,), R)).sum((1, 2)).mean().item()
    assert area == pytest.approx(AREAS[name], rel=0.01)


def test_mask_is_centred_on_the_object() -> None:
    mask_HW = coverage_masks(torch.tensor([0]), torch.tensor([[10.25, 20.75]]), torch.tensor([5.0]))[0]
    axis = torch.arange(32) + 0.5
    assert (mask_HW.sum(0) @ axis / mask_HW.sum()).item() == pytest.approx(10.25, abs=0.02)
    assert (mask_HW.sum(1) @ axis / mask_HW.sum()).item() == pytest.approx(20.75, abs=0.02)


def test_object_lies_inside_the_frame_in_the_extreme_scenes() -> None:
    radius = RADIUS[1].item() + RADIUS_JITTER
    for x in (PLACE_X[0].item() - PLACE_JITTER, PLACE_X[-1].item() + PLACE_JITTER):
        for y in HEIGHT_RANGE:
            masks = coverage_masks(torch.arange(3), torch.tensor([[x, y]]).expand(3, 2), torch.full((3,), radius))
            inside = [radius <= value <= 32 - radius for value in (x, y)]
            assert all(inside)
            border = torch.cat([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], 1)
            assert border.max() <= 0.9  # antialiasing may reach the border pixel, the object not beyond it


def test_render_is_two_colours_near_the_palette() -> None:
    scenes = sample_scenes(64, generator(), fixed={"shape": "cross", "place": "centre"})
    images = render(scenes)
    assert images.shape == (64, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1
    row = scenes.centre_B2[:, 1].long()
    middle = images[torch.arange(64), :, row, 16]
    assert (middle - OBJECT_PALETTE[scenes.attributes["colour"]]).abs().max() <= 0.0201
    assert (images[:, :, 0, 0] - BACKGROUND_PALETTE[scenes.attributes["background"]]).abs().max() <= 0.0201


def test_sampling_is_seeded_uniform_and_respects_what_is_fixed() -> None:
    first, second = sample_scenes(3000, generator(1)), sample_scenes(3000, generator(1))
    assert torch.equal(render(first[:50]), render(second[:50]))
    for name, values in ATTRIBUTES.items():
        share = torch.bincount(first.attributes[name], minlength=len(values)) / 3000
        assert (share - 1 / len(values)).abs().max() < 0.04
    assert (sample_scenes(50, generator(), fixed={"colour": "blue"}).attributes["colour"] == 4).all()
    with pytest.raises(KeyError):
        sample_scenes(1, fixed={"texture": "wool"})
    with pytest.raises(ValueError):
        sample_scenes(1, fixed={"colour": "orange"})


def test_differing_attributes_counts() -> None:
    one = {name: torch.tensor([0, 0]) for name in ATTRIBUTES}
    other = {**one, "shape": torch.tensor([1, 0]), "size": torch.tensor([1, 1])}
    assert differing_attributes(one, other).tolist() == [2, 1]
