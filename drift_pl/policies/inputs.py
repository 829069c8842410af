"""Inputs of a network that follow from numbers: checked sizes, and tensors on its device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from drift_pl.core.errors import UserError, named
from drift_pl.core.rng import to_device


def checked_side(side: int, unit: int) -> int:
    """The side of an image in pixels, if it is a multiple of `unit`.

    Raises:
        UserError: it is not; the message names one that is.
    """
    if side % unit:
        raise UserError(f"{named(side)} is not a multiple of {unit}: use e.g. {side // unit * unit or unit}")
    return side


def same_for_all(value: float, latents_BCHW: Tensor) -> Tensor:
    """One number for every row, [B], written by the device itself."""
    return torch.full((len(latents_BCHW),), value, device=latents_BCHW.device)


def per_channel(values: Sequence[float], latents_BCHW: Tensor) -> Tensor:
    """One number per channel, shaped to be broadcast over latents of any number of axes: [C, 1, 1]."""
    return to_device(torch.tensor(values), latents_BCHW.device).view(-1, *[1] * (latents_BCHW.ndim - 2))
