"""Conversion of images to 8 bits, and to files of them."""

import io
from typing import Any

from PIL import Image
from torch import Tensor


def to_bytes(images_B3HW: Tensor) -> Tensor:
    """Images in [0, 1] rounded to 8 bits, uint8 [B, 3, H, W], as files and image processors expect them."""
    return (images_B3HW.detach().float().clamp(0, 1) * 255).round().byte()


def processed(processor: Any, images_B3HW: Tensor) -> Any:
    """What an image processor makes of images in [0, 1]: it takes 8-bit ones, and would divide floats by 255 again."""
    return processor(images=list(to_bytes(images_B3HW)), return_tensors="pt")


def png(pixels_3HW: Tensor) -> bytes:
    """A uint8 image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_3HW.permute(1, 2, 0).numpy()).save(buffer, format="PNG")
    return buffer.getvalue()
