"""Image grids: one row per prompt and one column per seed, or one row per point of an evaluation."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate, pad

from drift_pl.core.files import replacing
from drift_pl.evaluation.sheet import GAP, LABEL_WIDTH, MARGIN, TITLE_HEIGHT
from drift_pl.scoring.pixels import to_bytes

SMALLEST_SIDE = 64
LARGEST_SIDE = 128
"""Larger images are shrunk on the sheet of all points."""
LETTER = 7
"""Approximate width of a letter in pixels."""


def labelled_grid(titles: Sequence[str], columns: Sequence[Tensor], labels: Sequence[str]) -> Image.Image:
    """Blocks of images side by side (e.g. base and tuned) with common rows.

    Args:
        titles: one per block.
        columns: per block the images [P, S, 3, H, W] in [0, 1]; small ones are enlarged without smoothing.
        labels: P prompts.
    """
    blocks = [Image.fromarray(_tile(images_PS3HW).numpy()) for images_PS3HW in columns]
    height, top = blocks[0].height, TITLE_HEIGHT
    width = LABEL_WIDTH + sum(block.width + MARGIN for block in blocks)
    sheet = Image.new("RGB", (width, top + height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    left, row_height = LABEL_WIDTH, height // len(labels)
    for row, label in enumerate(labels):
        text = "\n".join(textwrap.wrap(label, 27, break_long_words=False)[:4])
        draw.multiline_text((MARGIN, top + row * row_height + 8), text, fill="black", font=font)
    for title, block in zip(titles, blocks, strict=True):
        draw.text((left, 6), title, fill="black", font=font)
        sheet.paste(block, (left, top))
        left += block.width + MARGIN
    return sheet


def save_image(image: Image.Image, path: Path) -> None:
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


def save_sheet(labels: Sequence[str], grids: Sequence[Tensor], prompts: Sequence[str], path: Path) -> None:
    """Writes the sheet: a row per point, a block per prompt, and in it a column per noise.

    Args:
        labels: one per point.
        grids: per point the images, uint8 [P, S, 3, H, W]; all of one shape.
        prompts: at least P of them.
    """
    images_NPS3HW = torch.stack([shrink(grid.float() / 255, LARGEST_SIDE) for grid in grids])
    num_seeds, side = images_NPS3HW.shape[2], max(images_NPS3HW.shape[-1], SMALLEST_SIDE)
    width = num_seeds * side // LETTER
    blocks = images_NPS3HW.unbind(1)
    titles = [textwrap.shorten(prompt, max(width, 8), placeholder="...") for prompt in prompts[: len(blocks)]]
    save_image(labelled_grid(titles, blocks, labels), path)


def shrink(images_3HW: Tensor, largest: int) -> Tensor:
    """Images [..., 3, H, W] with no side above `largest` pixels; smaller ones are unchanged."""
    height, width = images_3HW.shape[-2:]
    if max(height, width) <= largest:
        return images_3HW
    size = [round(length * largest / max(height, width)) for length in (height, width)]
    flat = interpolate(images_3HW.flatten(0, -4), size, mode="bilinear", antialias=True)
    return flat.unflatten(0, images_3HW.shape[:-3])


def _tile(images_PS3HW: Tensor) -> Tensor:
    """One image, uint8 [rows, columns, 3], with a gap to the right of and below each tile."""
    factor = max(1, -(-SMALLEST_SIDE // images_PS3HW.shape[-1]))
    flat = interpolate(images_PS3HW.flatten(0, 1), scale_factor=factor, mode="nearest")
    tiles_PS3HW = to_bytes(pad(flat, (0, GAP, 0, GAP), value=1.0)).unflatten(0, images_PS3HW.shape[:2])
    return tiles_PS3HW.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2).contiguous()
