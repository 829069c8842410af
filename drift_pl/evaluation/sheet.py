"""Where the pictures of a labelled grid are, to draw one and to take it apart. No torch."""

from pathlib import Path

import numpy as np
from PIL import Image

MARGIN = 8
LABEL_WIDTH = 190
TITLE_HEIGHT = 28
GAP = 2
"""Pixels to the right of each picture and below it."""


def cut(path: Path, prompts: int, seeds: int) -> np.ndarray | None:
    """The pictures of a grid of one block, uint8 [P, S, H, W, 3]; None if the file is no such grid."""
    try:
        with Image.open(path) as image:
            sheet_HW3 = np.asarray(image.convert("RGB"))[TITLE_HEIGHT:, LABEL_WIDTH:-MARGIN]
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    height, width = sheet_HW3.shape[:2]
    if not (height and width) or height % prompts or width % seeds or height // prompts <= GAP:
        return None
    tiles_PHSW3 = sheet_HW3.reshape(prompts, height // prompts, seeds, width // seeds, 3)
    return tiles_PHSW3.transpose(0, 2, 1, 3, 4)[:, :, :-GAP, :-GAP]
