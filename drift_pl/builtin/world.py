"""The built-in world: 32x32 scenes of one object, rendered as tensors.

Five attributes describe a scene; everything else (height in the frame, exact radius, exact tint) is free,
neither captioned nor measured. Lengths are in pixels, with pixel (row i, column j) centred at (i + 0.5, j + 0.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RESOLUTION = 32
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": ("circle", "triangle", "cross"),
    "colour": ("red", "yellow", "green", "cyan", "blue", "purple"),
    "size": ("small", "large"),
    "place": ("left", "centre", "right"),
    "background": ("dark", "grey", "light"),
}
OBJECT_PALETTE = torch.tensor(
    [
        (0.90, 0.10, 0.10),
        (0.95, 0.85, 0.05),
        (0.10, 0.65, 0.20),
        (0.05, 0.80, 0.85),
        (0.15, 0.20, 0.90),
        (0.80, 0.15, 0.80),
    ]
)
BACKGROUND_PALETTE = torch.tensor([(0.08,) * 3, (0.45,) * 3, (0.92,) * 3])
RADIUS = torch.tensor([5.2, 8.6])
RADIUS_JITTER = 0.05
PLACE_X = torch.tensor([9.6, 16.0, 22.4])
PLACE_JITTER = 0.1
HEIGHT_RANGE = (15.75, 16.25)
TINT_JITTER = 0.02

CROSS_HALF_WIDTH = 0.32
TRIANGLE_BASE = 0.8


@dataclass(frozen=True)
class Scenes:
    """A batch of B scenes.

    Attributes:
        attributes: name -> index into ``ATTRIBUTES[name]``, int64 [B].
        centre_B2: (x, y) of the object's centre, pixels.
        radius_B: half the object's extent, pixels.
        object_colour_B3: RGB in [0, 1].
        background_colour_B3: RGB in [0, 1].
    """

    attributes: dict[str, Tensor]
    centre_B2: Tensor
    radius_B: Tensor
    object_colour_B3: Tensor
    background_colour_B3: Tensor

    def __len__(self) -> int:
        return len(self.radius_B)

    def __getitem__(self, index: Tensor | slice) -> Scenes:
        return Scenes(
            {name: values_B[index] for name, values_B in self.attributes.items()},
            self.centre_B2[index],
            self.radius_B[index],
            self.object_colour_B3[index],
            self.background_colour_B3[index],
        )


def join(batches: Sequence[Scenes]) -> Scenes:
    """Concatenates batches of scenes."""
    return Scenes(
        {name: torch.cat([batch.attributes[name] for batch in batches]) for name in ATTRIBUTES},
        torch.cat([batch.centre_B2 for batch in batches]),
        torch.cat([batch.radius_B for batch in batches]),
        torch.cat([batch.object_colour_B3 for batch in batches]),
        torch.cat([batch.background_colour_B3 for batch in batches]),
    )


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator | None) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def sample_scenes(
    count: int, generator: torch.Generator | None = None, fixed: Mapping[str, str] | None = None
) -> Scenes:
    """Draw scenes with independent uniform attributes.

    Args:
        count: number of scenes B.
        generator: CPU generator; None uses the global one.
        fixed: attribute -> value that every scene has; the other attributes are free.

    Raises:
        KeyError: ``fixed`` names an attribute that does not exist.
        ValueError: ``fixed`` names a value that does not exist.
    """
    attributes = {
        name: torch.randint(len(values), (count,), generator=generator) for name, values in ATTRIBUTES.items()
    }
    for name, value in (fixed or {}).items():
        attributes[name] = torch.full((count,), ATTRIBUTES[name].index(value))
    return scenes_of(attributes, generator)


def scenes_of(attributes: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Scenes:
    """Scenes with the given attributes (each int64 [B]) and random free parameters."""
    count = len(attributes["shape"])
    x_B = PLACE_X[attributes["place"]] + _uniform((count,), -PLACE_JITTER, PLACE_JITTER, generator)
    y_B = _uniform((count,), *HEIGHT_RANGE, generator)
    radius_B = RADIUS[attributes["size"]] + _uniform((count,), -RADIUS_JITTER, RADIUS_JITTER, generator)
    object_B3 = OBJECT_PALETTE[attributes["colour"]] + _uniform((count, 3), -TINT_JITTER, TINT_JITTER, generator)
    grey_B1 = _uniform((count, 1), -TINT_JITTER, TINT_JITTER, generator)
    background_B3 = BACKGROUND_PALETTE[attributes["background"]] + grey_B1
    return Scenes(dict(attributes), torch.stack([x_B, y_B], 1), radius_B, object_B3, background_B3)


def _signed_distances(x_BHW: Tensor, y_BHW: Tensor, r_B11: Tensor) -> Tensor:
    """Signed distance to every shape's outline, pixels, negative inside; [3, B, H, W] in ``ATTRIBUTES`` order.

    Exact near straight edges and arcs, a lower bound outside corners: at this size the difference is invisible.
    """
    across_BHW, along_BHW = x_BHW.abs(), y_BHW.abs()
    circle_BHW = (x_BHW.square() + y_BHW.square()).sqrt() - r_B11
    # apex (0, -r), base from (-r, TRIANGLE_BASE r) to (r, TRIANGLE_BASE r)
    slope = 1.0 + TRIANGLE_BASE
    flank_BHW = (slope * across_BHW - (y_BHW + r_B11)) / (1.0 + slope * slope) ** 0.5
    triangle_BHW = torch.maximum(flank_BHW, y_BHW - TRIANGLE_BASE * r_B11)
    longest_BHW, shortest_BHW = torch.maximum(across_BHW, along_BHW), torch.minimum(across_BHW, along_BHW)
    cross_BHW = torch.maximum(longest_BHW - r_B11, shortest_BHW - CROSS_HALF_WIDTH * r_B11)
    return torch.stack([circle_BHW, triangle_BHW, cross_BHW])


def coverage_masks(shape_B: Tensor, centre_B2: Tensor, radius_B: Tensor) -> Tensor:
    """Share of each pixel covered by the object: [B, H, W] in [0, 1], antialiased over one pixel."""
    axis = torch.arange(RESOLUTION) + 0.5
    x_BHW = (axis[None, None, :] - centre_B2[:, 0, None, None]).expand(-1, RESOLUTION, -1)
    y_BHW = (axis[None, :, None] - centre_B2[:, 1, None, None]).expand(-1, -1, RESOLUTION)
    distance_KBHW = _signed_distances(x_BHW, y_BHW, radius_B[:, None, None])
    index_1BHW = shape_B[None, :, None, None].expand(1, -1, RESOLUTION, RESOLUTION)
    return (0.5 - distance_KBHW.gather(0, index_1BHW)[0]).clamp(0.0, 1.0)


def render(scenes: Scenes) -> Tensor:
    """Images of the scenes: float32 [B, 3, H, W] in [0, 1]."""
    mask_B1HW = coverage_masks(scenes.attributes["shape"], scenes.centre_B2, scenes.radius_B)[:, None]
    foreground_B311 = scenes.object_colour_B3[:, :, None, None]
    background_B311 = scenes.background_colour_B3[:, :, None, None]
    return (mask_B1HW * foreground_B311 + (1.0 - mask_B1HW) * background_B311).clamp(0.0, 1.0)


def differing_attributes(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
    """Number of attributes that differ, int64, 0..5, elementwise over two broadcastable attribute tables."""
    return torch.stack([(first[name] != second[name]).long() for name in ATTRIBUTES]).sum(0)
