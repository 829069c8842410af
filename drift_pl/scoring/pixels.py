"""Conversion of images to 8 bits."""

from torch import Tensor


def to_bytes(images_B3HW: Tensor) -> Tensor:
    """Images in [0, 1] rounded to 8 bits, uint8 [B, 3, H, W], as files and image processors expect them."""
    return (images_B3HW.detach().float().clamp(0, 1) * 255).round().byte()
