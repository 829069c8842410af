"""The arrays of a point: pictures and embeddings, in an .npz file beside its record. No torch."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from drift_pl.core.errors import UserError

DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What numpy raises for a file that is cut, is of another kind, or holds Python objects."""


def read_npz(path: Path, name: str, remedy: str) -> np.ndarray | None:
    """One array of a file; None if the file has no array of this name.

    Args:
        remedy: what to do about a damaged file.

    Raises:
        UserError: the file is damaged, or holds Python objects.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:  # opened here: numpy leaves damaged files open
            return arrays.get(name)
    except (*DAMAGED, AttributeError, TypeError) as error:  # a single array is no container
        raise UserError(f"{path} is damaged: {remedy}") from error


def read_grid(path: Path, remedy: str) -> np.ndarray:
    """Pictures of the first prompts, uint8 [P, S, 3, H, W].

    Raises:
        UserError: the file is damaged, or holds no pictures.
    """
    grid = read_npz(path, "grid", remedy)
    if grid is None or grid.dtype != np.uint8 or grid.ndim != 5 or grid.shape[2] != 3 or not grid.size:
        raise UserError(f"{path} holds no pictures: {remedy}")
    return grid
