"""Image grids to look at: one row per prompt and a column per fixed seed, or one row per point of an evaluation."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from drift_pl.core.files import replacing

MARGIN = 8
LABEL_WIDTH = 190
SMALLEST_SIDE = 64
LARGEST_SIDE = 128
"""Images of more pixels than this are shrunk on the sheet of all points."""
LETTER = 7
"""Width of a letter in pixels, about."""


def labelled_grid(titles: Sequence[str], columns: Sequence[Tensor], labels: Sequence[str]) -> Image.Image:
    """Blocks of images side by side (base and tuned, say), sharing their rows.

    Args:
        titles: one per block.
        columns: per block the images [P, S, 3, H, W] in [0, 1]; small ones are enlarged without smoothing.
        labels: P prompts.
    """
    blocks = [_tile(images_PS3HW) for images_PS3HW in columns]
    height, top = blocks[0].shape[0], 28
    width = LABEL_WIDTH + sum(block.shape[1] + MARGIN for block in blocks)
    sheet = Image.new("RGB", (width, top + height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    left, row_height = LABEL_WIDTH, height // len(labels)
    for row, label in enumerate(labels):
        draw.multiline_text((MARGIN, top + row * row_height + 8), _wrapped(label), fill="black", font=font)
    for title, block in zip(titles, blocks, strict=True):
        draw.text((left, 6), title, fill="black", font=font)
        sheet.paste(Image.fromarray(block), (left, top))
        left += block.shape[1] + MARGIN
    return sheet


def save_image(image: Image.Image, path: Path) -> None:
    """Writes a PNG."""
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def save_sheet(labels: Sequence[str], grids: Sequence[Tensor], prompts: Sequence[str], path: Path) -> None:
    """Writes the sheet: a row per point, a block per prompt, in it a column per noise.

    Args:
        labels: one per point.
        grids: per point the images, uint8 [P, S, 3, H, W]; all of one shape.
        prompts: P or more of them.
    """
    images_NPS3HW = torch.stack([_shrunk(grid.float() / 255) for grid in grids])
    num_seeds, side = images_NPS3HW.shape[2], max(images_NPS3HW.shape[-1], SMALLEST_SIDE)
    width = num_seeds * side // LETTER
    titles = [textwrap.shorten(prompt, max(width, 8), placeholder="...") for prompt in prompts]
    blocks = [images_NPS3HW[:, number] for number in range(images_NPS3HW.shape[1])]
    save_image(labelled_grid(titles[: len(blocks)], blocks, labels), path)


def _tile(images_PS3HW: Tensor) -> np.ndarray:
    factor = max(1, -(-SMALLEST_SIDE // images_PS3HW.shape[-1]))
    flat = interpolate(images_PS3HW.flatten(0, 1), scale_factor=factor, mode="nearest")
    flat = (flat.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    padded = np.pad(flat, ((0, 0), (0, 2), (0, 2), (0, 0)), constant_values=255)
    rows, seeds = images_PS3HW.shape[:2]
    tiles = padded.reshape(rows, seeds, *padded.shape[1:])
    return np.concatenate([np.concatenate(list(row), axis=1) for row in tiles], axis=0)


def _wrapped(label: str, width: int = 26) -> str:
    lines = [""]
    for word in label.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines[:4])


def _shrunk(images_PS3HW: Tensor) -> Tensor:
    side = max(images_PS3HW.shape[-2:])
    if side <= LARGEST_SIDE:
        return images_PS3HW
    size = [round(length * LARGEST_SIDE / side) for length in images_PS3HW.shape[-2:]]
    flat = interpolate(images_PS3HW.flatten(0, 1), size, mode="bilinear", antialias=True)
    return flat.unflatten(0, images_PS3HW.shape[:2])
