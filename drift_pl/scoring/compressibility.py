"""Rewards without a network: the size of an image as a JPEG file (DDPO, arXiv 2305.13301, section 5)."""

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.signatures import Count, Positive
from drift_pl.scoring.pixels import to_bytes


def jpeg_kilobytes(images_B3HW: Tensor, quality: int) -> Tensor:
    """Size of each image as a JPEG file, in units of 1000 bytes, float32 [B].

    Args:
        images_B3HW: images in [0, 1].
        quality: JPEG quality, 1 to 100.
    """
    pixels = to_bytes(images_B3HW).permute(0, 2, 3, 1).cpu().numpy()
    sizes = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
        sizes.append(buffer.tell() / 1000)
    return torch.tensor(sizes, dtype=torch.float32, device=images_B3HW.device)


class JpegCompressibility:
    """Minus the size as a JPEG file: rewards images that compress well.

    Args:
        quality: JPEG quality, 1 to 100; published runs use 95.
        kilobytes_per_point: kilobytes per unit of reward (DDPO: 1; flow_grpo: 500).
    """

    sign = -1.0

    def __init__(self, quality: Count = 95, kilobytes_per_point: Positive = 1.0) -> None:
        if not 1 <= quality <= 100:
            raise UserError(f"rewards.args.quality={quality} must lie in [1, 100], such as 95")
        self.quality = quality
        self.kilobytes_per_point = kilobytes_per_point

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.sign * jpeg_kilobytes(images_B3HW, self.quality) / self.kilobytes_per_point

    def to(self, device: torch.device | str) -> "JpegCompressibility":
        return self


class JpegIncompressibility(JpegCompressibility):
    """The size as a JPEG file: rewards images that compress poorly."""

    sign = 1.0
