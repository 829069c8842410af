"""The attribute reader: reads the attributes of an image by template matching. Nothing is learned.

Each template is the mask of one object (shape x size x position on a half-pixel grid). An image of exactly two flat
colours, one on the mask and one off it, is fitted by that template without residual. So the best template is the one
with the smallest least-squares residual, which has a closed form: with a the centred mask,

    unexplained = sum_c |I_c - mean I_c|^2  -  sum_c <I_c, a>^2 / |a|^2 ,

one matrix product for all templates. Object and background colour are then assigned to the nearest palette entry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.builtin.captions import parse_indices
from drift_pl.builtin.world import (
    ATTRIBUTES,
    BACKGROUND_PALETTE,
    OBJECT_PALETTE,
    PLACE_X,
    RADIUS,
    RESOLUTION,
    coverage_masks,
)

POSITION_STEP = 0.5
POSITION_RANGE = (8.5, 23.5)
MAX_UNEXPLAINED = 0.10
"""Largest share of an image's variance that a readable image may leave unexplained (see the model card)."""
MAX_COLOUR_DISTANCE = 0.22
"""Largest Euclidean RGB distance of object or background from the nearest palette entry; the maximum is sqrt(3)."""
MIN_VARIANCE = 1e-3
"""Smallest variance per pixel, summed over channels, at which an image counts as showing an object."""
CHUNK = 128


@dataclass(frozen=True)
class Reading:
    """Attributes read from B images.

    Attributes:
        attributes: name -> index into ``ATTRIBUTES[name]``, int64 [B]; the best guess even where unreadable.
        readable_B: whether the reading is reliable.
        unexplained_B: share of the image's variance not explained by the best template, in [0, 1].
        colour_distance_B: larger of the object's and the background's distance from the palette.
    """

    attributes: dict[str, Tensor]
    readable_B: Tensor
    unexplained_B: Tensor
    colour_distance_B: Tensor


class AttributeReader:
    """Reads attributes of 32x32 images; deterministic, a few hundred images per second on two cores."""

    def __init__(self) -> None:
        axis = torch.arange(POSITION_RANGE[0], POSITION_RANGE[1] + 1e-6, POSITION_STEP)
        shapes, sizes = torch.arange(len(ATTRIBUTES["shape"])), torch.arange(len(ATTRIBUTES["size"]))
        grid_T4 = torch.cartesian_prod(shapes.float(), sizes.float(), axis, axis)
        self.shape_T, self.size_T = grid_T4[:, 0].long(), grid_T4[:, 1].long()
        self.x_T = grid_T4[:, 2]
        masks_TN = coverage_masks(self.shape_T, grid_T4[:, 2:], RADIUS[self.size_T]).flatten(1)
        self.mean_T = masks_TN.mean(1)
        centred_TN = masks_TN - self.mean_T[:, None]
        self.norm_T = centred_TN.norm(dim=1)
        self.unit_TN = centred_TN / self.norm_T[:, None]

    def __call__(self, images_B3HW: Tensor) -> Reading:
        """Read images in [0, 1], float [B, 3, 32, 32] on any device; the result is on the CPU.

        Raises:
            ValueError: the images have another size.
        """
        if images_B3HW.shape[1:] != (3, RESOLUTION, RESOLUTION):
            raise ValueError(f"the reader reads [B, 3, 32, 32] images, not {tuple(images_B3HW.shape)}")
        images_B3HW = images_B3HW.detach().to("cpu", torch.float32)
        if not len(images_B3HW):
            images_B3HW = torch.zeros(0, 3, RESOLUTION, RESOLUTION)
        parts = [self._read(chunk) for chunk in images_B3HW.split(CHUNK)]
        return Reading(
            {name: torch.cat([part.attributes[name] for part in parts]) for name in ATTRIBUTES},
            torch.cat([part.readable_B for part in parts]),
            torch.cat([part.unexplained_B for part in parts]),
            torch.cat([part.colour_distance_B for part in parts]),
        )

    def _read(self, images_B3HW: Tensor) -> Reading:
        pixels_B3N = images_B3HW.flatten(2)
        mean_B3 = pixels_B3N.mean(2)
        variance_B = (pixels_B3N - mean_B3[..., None]).square().sum((1, 2))
        projection_B3T = pixels_B3N @ self.unit_TN.T
        explained_BT = projection_B3T.square().sum(1)
        explained_B, best_B = explained_BT.max(1)
        unexplained_B = (1.0 - explained_B / variance_B.clamp_min(1e-12)).clamp(0.0, 1.0)
        rows_B = torch.arange(len(images_B3HW))
        contrast_B3 = projection_B3T[rows_B, :, best_B] / self.norm_T[best_B, None]
        background_B3 = mean_B3 - contrast_B3 * self.mean_T[best_B, None]
        object_distance_B, colour_B = torch.cdist(background_B3 + contrast_B3, OBJECT_PALETTE).min(1)
        background_distance_B, tone_B = torch.cdist(background_B3, BACKGROUND_PALETTE).min(1)
        distance_B = torch.maximum(object_distance_B, background_distance_B)
        attributes = {
            "shape": self.shape_T[best_B],
            "colour": colour_B,
            "size": self.size_T[best_B],
            "place": (self.x_T[best_B, None] - PLACE_X).abs().argmin(1),
            "background": tone_B,
        }
        readable_B = (unexplained_B <= MAX_UNEXPLAINED) & (distance_B <= MAX_COLOUR_DISTANCE)
        readable_B &= variance_B >= MIN_VARIANCE * RESOLUTION**2
        return Reading(attributes, readable_B, unexplained_B, distance_B)


def shows(reading: Reading, named: dict[str, int]) -> Tensor:
    """Whether each image is readable and shows all named attributes (attribute -> index): bool [B]."""
    on_prompt_B = reading.readable_B.clone()
    for name, index in named.items():
        on_prompt_B &= reading.attributes[name] == index
    return on_prompt_B


def effective_number(values_B: Tensor) -> float:
    """exp(entropy) of whole numbers: k for k equally frequent values, 1 for a single one, 0 for none."""
    if not len(values_B):
        return 0.0
    share_K = torch.bincount(values_B).double() / len(values_B)
    return math.exp(-torch.special.xlogy(share_K, share_K).sum().item())


def evenness(values_B: Tensor, count: int) -> float:
    """exp(entropy) / number of values: 1 for uniform values, 1/count for a single one, 0 without images."""
    return effective_number(values_B) / count


def coverage(reading: Reading, on_prompt_B: Tensor, named: dict[str, int]) -> float:
    """Mean evenness of the open attributes over the on-prompt images, times the share of on-prompt images.

    Returns NaN if the prompt leaves nothing open and 0 if no image is on prompt.
    """
    open_names = [name for name in ATTRIBUTES if name not in named]
    if not open_names:
        return math.nan
    per_name = [evenness(reading.attributes[name][on_prompt_B], len(ATTRIBUTES[name])) for name in open_names]
    return on_prompt_B.double().mean().item() * sum(per_name) / len(per_name)


class AttributeMeasure:
    """Alignment and coverage by the attribute reader, for ``evaluation.measures``.

    ``alignment`` is the share of a prompt's images that are readable and show everything that the prompt names.
    ``coverage`` is the mean, over the attributes that the prompt leaves open, of exp(entropy) / number of values among
    those images, times their share; NaN if nothing is open, 0 if no image is on prompt.

    Coverage is biased low for few images: the entropy of n draws from K equally likely values falls short by about
    (K - 1) / (2 n), so perfect data score about 1 - (K - 1) / (2 S): with S = 16 images per prompt 0.84 for six colours
    and 0.97 for two sizes, with S = 64 0.96 and 0.99. Compare at equal S only.
    """

    def __init__(self) -> None:
        self._reader = AttributeReader()

    def counts(self, images_S3HW: Tensor, prompt: str) -> Tensor:
        """bool [S]: readable, and shows everything that the prompt names."""
        return shows(self._reader(images_S3HW), parse_indices(prompt))

    def __call__(self, images_PS3HW: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Measure S images in [0, 1] for each of P prompts.

        Returns:
            ``{"alignment": [P], "coverage": [P]}``, float32.

        Raises:
            ValueError: the number of prompts is not P.
        """
        if len(images_PS3HW) != len(prompts):
            raise ValueError(f"{len(images_PS3HW)} groups of images for {len(prompts)} prompts")
        alignments, coverages = [], []
        for images_S3HW, prompt in zip(images_PS3HW, prompts, strict=True):
            named, reading = parse_indices(prompt), self._reader(images_S3HW)
            on_prompt_S = shows(reading, named)
            alignments.append(on_prompt_S.double().mean().item())
            coverages.append(coverage(reading, on_prompt_S, named))
        return {"alignment": torch.tensor(alignments), "coverage": torch.tensor(coverages)}
