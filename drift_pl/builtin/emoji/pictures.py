"""The pictures of the emoji world: one sheet, a row for each thing and a column for each style."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drift_pl.builtin.emoji import WEIGHTS
from drift_pl.builtin.emoji.things import STYLES, THINGS

RESOLUTION = 32
SHEET = WEIGHTS / "pictures.png"


@cache
def load_pictures(sheet: Path = SHEET) -> Tensor:
    """Every thing in every style, on white: float32 [T, S, 3, 32, 32] in [0, 1]. Callers must not change it."""
    with Image.open(sheet) as image:
        pixels_HW3 = torch.from_numpy(np.array(image.convert("RGB"))).float() / 255
    tiles = pixels_HW3.view(len(THINGS), RESOLUTION, len(STYLES), RESOLUTION, 3)
    return tiles.permute(0, 2, 4, 1, 3).contiguous()


def transformed(images_B3HW: Tensor, flip_B: Tensor, shift_B2: Tensor) -> Tensor:
    """Mirrored where `flip_B`, then moved by whole pixels (x, y); what moves in is white: float32 [B, 3, H, W].

    Args:
        flip_B: bool [B].
        shift_B2: int64 [B, 2].
    """
    height, width = images_B3HW.shape[2:]
    images_B3HW = torch.where(flip_B[:, None, None, None], images_B3HW.flip(3), images_B3HW)
    x_BW = torch.arange(width) - shift_B2[:, :1]
    y_BH = torch.arange(height) - shift_B2[:, 1:]
    rows_B = torch.arange(len(images_B3HW))[:, None, None]
    moved_BHW3 = images_B3HW.permute(0, 2, 3, 1)[
        rows_B, y_BH.clamp(0, height - 1)[:, :, None], x_BW.clamp(0, width - 1)[:, None]
    ]
    inside_BHW = ((y_BH >= 0) & (y_BH < height))[:, :, None] & ((x_BW >= 0) & (x_BW < width))[:, None]
    return torch.where(inside_BHW[..., None], moved_BHW3, 1.0).permute(0, 3, 1, 2)
