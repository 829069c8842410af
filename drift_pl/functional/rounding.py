"""What float32 rounding alone can make of equal numbers."""

import torch
from torch import Tensor

# Units in the last place (2^-23 of the magnitude) by which a score that sums many products differs between equal
# images. Measured rewards stay within a few; sixteen leave room for sums of several rewards.
ROUNDINGS = 16
RELATIVE = ROUNDINGS * torch.finfo(torch.float32).eps


def rounding_spread(values_PG: Tensor, mask_PG: Tensor) -> Tensor:
    """The difference within a group that float32 rounding explains, [P, 1]: 1.9e-6 x max(1, largest |value|).

    Values of magnitude below 1 count as 1: a score near 0 is as a rule the difference of numbers of order 1, such as
    cosines and probabilities, and has their rounding.

    Args:
        values_PG: any; those outside of the mask may be NaN.
        mask_PG: bool, the values that count. An empty group has the magnitude 1.
    """
    return RELATIVE * torch.where(mask_PG, values_PG.abs(), 0).amax(1, keepdim=True).clamp(min=1)


def equal_up_to_rounding(values_PG: Tensor, mask_PG: Tensor) -> Tensor:
    """Whether the values of a group differ by rounding at most, bool [P, 1]; True for an empty group."""
    highest = torch.where(mask_PG, values_PG, -torch.inf).amax(1, keepdim=True)
    lowest = torch.where(mask_PG, values_PG, torch.inf).amin(1, keepdim=True)
    return highest - lowest <= rounding_spread(values_PG, mask_PG)
