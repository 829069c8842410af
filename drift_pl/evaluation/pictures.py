"""Pictures of an evaluation: a grid per point, and one sheet on which each column is one noise through all points."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from drift_pl.evaluation.evaluator import Evaluated
from drift_pl.evaluation.grids import SMALLEST_SIDE, labelled_grid, save_image

LARGEST_SIDE = 128
"""Images of more pixels than this are shrunk on the sheet of all points."""
LETTER = 7
"""Width of a letter in pixels, about."""


def pictures_folder(file: Path) -> Path:
    """evaluation/points beside evaluation.json."""
    return file.with_suffix("") / "points"


def save_point(evaluated: Evaluated, title: str, folder: Path, name: str) -> Path:
    """Writes NAME.png, and NAME.npz with what other points are compared with; returns the picture's path."""
    grid_PS3HW = evaluated.grid_PS3HW
    picture = folder / f"{name}.png"
    save_image(labelled_grid([title], [grid_PS3HW], evaluated.prompts[: len(grid_PS3HW)]), picture)
    arrays = {"grid": (grid_PS3HW.clamp(0, 1) * 255).round().byte().numpy()}
    if evaluated.embedding_PSD is not None:
        arrays["embedding"] = evaluated.embedding_PSD.numpy()
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    return picture


def read_array(folder: Path, name: str, array: str) -> Tensor | None:
    """`grid` (uint8 [P, S, 3, H, W]) or `embedding` (float32 [P, S, D]) of a point; None if it was not kept."""
    path = folder / f"{name}.npz"
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        return torch.from_numpy(arrays[array]) if array in arrays else None


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


def _shrunk(images_PS3HW: Tensor) -> Tensor:
    side = max(images_PS3HW.shape[-2:])
    if side <= LARGEST_SIDE:
        return images_PS3HW
    size = [round(length * LARGEST_SIDE / side) for length in images_PS3HW.shape[-2:]]
    flat = interpolate(images_PS3HW.flatten(0, 1), size, mode="bilinear", antialias=True)
    return flat.unflatten(0, images_PS3HW.shape[:2])
