"""The reader of the emoji world: which thing an image shows, in which style. Nothing is learned.

An image is compared with every picture of the sheet, mirrored and moved by up to `SHIFT` pixels, in a feature space
that nothing else uses: colours and histograms of edge directions on a coarse grid, both zero on white. With f the
image's features and t a picture's, the best picture has the smallest unexplained share |f - t|^2 / |t|^2. An image is
readable if that share is small, and clearly smaller than that of the best picture of any other thing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from drift_pl.builtin.emoji.captions import Meaning, parse
from drift_pl.builtin.emoji.pictures import RESOLUTION, load_pictures, transformed
from drift_pl.builtin.emoji.things import STYLES, THINGS
from drift_pl.builtin.reader import effective_number

COLOUR_GRID, EDGE_GRID, DIRECTIONS = 8, 8, 8
SHIFT = 2
MAX_UNEXPLAINED, MAX_RATIO = 0.25, 0.6
"""Largest unexplained share of a readable image, and the largest ratio of it to that of the best picture of another
thing: calibrated on blends, noise, shifts and reconstructions (see the model card)."""
CHUNK = 256


@dataclass(frozen=True)
class Reading:
    """What B images show.

    Attributes:
        thing_B, style_B: positions in `THINGS` and `STYLES`, int64; the best guess even where unreadable.
        readable_B: whether the reading is reliable, bool.
        unexplained_B: the best picture's unexplained share, float32.
        rival_B: the unexplained share of the best picture of another thing, float32.
    """

    thing_B: Tensor
    style_B: Tensor
    readable_B: Tensor
    unexplained_B: Tensor
    rival_B: Tensor


def features(images_B3HW: Tensor) -> Tensor:
    """Colours and edge directions of images in [0, 1], [B, 3, 32, 32]: float32 [B, D], all zero for a white image."""
    dark_B3HW = 1.0 - images_B3HW
    colour = F.avg_pool2d(dark_B3HW, RESOLUTION // COLOUR_GRID) * math.sqrt(RESOLUTION // COLOUR_GRID)
    return torch.cat([colour.flatten(1), edge_histograms(dark_B3HW).flatten(1)], 1)


def edge_histograms(images_B3HW: Tensor) -> Tensor:
    """Edge strength by direction, summed over cells: [B, DIRECTIONS, EDGE_GRID, EDGE_GRID]."""
    padded = F.pad(images_B3HW, (1, 1, 1, 1), mode="replicate")
    x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    strongest = (x.square() + y.square()).argmax(1, keepdim=True)
    x_BHW, y_BHW = x.gather(1, strongest)[:, 0], y.gather(1, strongest)[:, 0]
    angles_D = torch.arange(DIRECTIONS) * math.pi / DIRECTIONS
    along = x_BHW[:, None] * angles_D.cos()[:, None, None] + y_BHW[:, None] * angles_D.sin()[:, None, None]
    strength = torch.hypot(x_BHW, y_BHW)[:, None]
    # each direction takes the edges within half a step of it, softly
    part = (along.abs() / strength.clamp_min(1e-6)) ** (2 * DIRECTIONS)
    return F.avg_pool2d(part * strength, RESOLUTION // EDGE_GRID) * (RESOLUTION // EDGE_GRID)


@cache
def templates() -> tuple[Tensor, Tensor]:
    """Features of every picture, mirrored and moved: [N, D], and the picture that each is of, int64 [N]."""
    flat_B3HW = load_pictures().flatten(0, 1)
    moves = product((False, True), range(-SHIFT, SHIFT + 1), range(-SHIFT, SHIFT + 1))
    parts = [features(transformed(flat_B3HW, torch.tensor([flip]), torch.tensor([[x, y]]))) for flip, x, y in moves]
    return torch.cat(parts), torch.arange(len(flat_B3HW)).repeat(len(parts))


class PictogramReader:
    """Reads 32x32 images: a few hundred a second on one core."""

    def __call__(self, images_B3HW: Tensor) -> Reading:
        """Read images in [0, 1], float [B, 3, 32, 32] on any device; the result is on the CPU.

        Raises:
            ValueError: the images have another size.
        """
        if images_B3HW.shape[1:] != (3, RESOLUTION, RESOLUTION):
            raise ValueError(f"the reader reads [B, 3, 32, 32] images, not {tuple(images_B3HW.shape)}")
        images_B3HW = images_B3HW.detach().to("cpu", torch.float32)
        parts = [unexplained_shares(chunk) for chunk in images_B3HW.split(CHUNK) if len(chunk)]
        share_BTS = torch.cat([torch.zeros(0, len(THINGS), len(STYLES)), *parts])
        share_BT, style_BT = share_BTS.min(2)
        two_B2, things_B2 = share_BT.topk(2, largest=False)
        best_B, rival_B = two_B2.unbind(1)
        thing_B = things_B2[:, 0]
        readable_B = (best_B <= MAX_UNEXPLAINED) & (best_B <= MAX_RATIO * rival_B)
        style_B = style_BT.gather(1, thing_B[:, None])[:, 0]
        return Reading(thing_B, style_B, readable_B, best_B, rival_B)


def unexplained_shares(images_B3HW: Tensor) -> Tensor:
    """|f - t|^2 / |t|^2 of the best variant t of every picture: float32 [B, T, S]."""
    features_ND, picture_N = templates()
    features_BD, energy_N = features(images_B3HW), features_ND.square().sum(1)
    distance_BN = features_BD.square().sum(1)[:, None] - 2 * features_BD @ features_ND.T + energy_N
    pictures = len(THINGS) * len(STYLES)
    best_BP = torch.full((len(images_B3HW), pictures), math.inf)
    best_BP = best_BP.scatter_reduce(1, picture_N.expand(len(images_B3HW), -1), distance_BN / energy_N, "amin")
    return best_BP.clamp_min(0).unflatten(1, (len(THINGS), len(STYLES)))


def shows(reading: Reading, meaning: Meaning) -> Tensor:
    """Whether each image is readable and shows what a prompt asks for: bool [B]."""
    on_prompt_B = reading.readable_B & torch.isin(reading.thing_B, torch.tensor(sorted(meaning.things)))
    return on_prompt_B if meaning.style is None else on_prompt_B & (reading.style_B == meaning.style)


class PictogramMeasure:
    """Alignment, styles and things by the pictogram reader, for `evaluation.measures`.

    `alignment` is the share of a prompt's images that are readable and show what it asks for. `styles` is the effective
    number of styles, exp(entropy), among those images, at most 5; NaN if the prompt names a style. `things` is the same
    of the things that they show; NaN if the prompt names a single thing. Both are 0 if no image is on prompt.

    The entropy of n draws from k equally likely values falls short by about (k - 1) / (2 n): with 64 images, 5 styles
    read as about 4.85. Compare at equal numbers of images only.
    """

    def __init__(self) -> None:
        self._reader = PictogramReader()

    def counts(self, images_S3HW: Tensor, prompt: str) -> Tensor:
        """bool [S]: readable, and shows what the prompt asks for."""
        return shows(self._reader(images_S3HW), parse(prompt))

    def __call__(self, images_PS3HW: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Measure S images in [0, 1] for each of P prompts.

        Returns:
            `{"alignment": [P], "styles": [P], "things": [P]}`, float32.

        Raises:
            ValueError: the number of prompts is not P.
        """
        if len(images_PS3HW) != len(prompts):
            raise ValueError(f"{len(images_PS3HW)} groups of images for {len(prompts)} prompts")
        rows = [
            self._measure(images_S3HW, parse(text)) for images_S3HW, text in zip(images_PS3HW, prompts, strict=True)
        ]
        alignment, styles, things = zip(*rows, strict=True) if rows else ((), (), ())
        return {"alignment": torch.tensor(alignment), "styles": torch.tensor(styles), "things": torch.tensor(things)}

    def _measure(self, images_S3HW: Tensor, meaning: Meaning) -> tuple[float, float, float]:
        reading = self._reader(images_S3HW)
        shown_S = shows(reading, meaning)
        styles = math.nan if meaning.style is not None else effective_number(reading.style_B[shown_S])
        things = math.nan if meaning.names_one_thing else effective_number(reading.thing_B[shown_S])
        return shown_S.double().mean().item(), styles, things
