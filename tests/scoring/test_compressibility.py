"""JPEG sizes, against files written by PIL."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from drift_pl.scoring.compressibility import JpegCompressibility, JpegIncompressibility


@pytest.mark.parametrize("quality", [95, 30])
def test_the_reward_is_the_size_of_the_file(quality: int, tmp_path: Path, generator: torch.Generator) -> None:
    """Noise, a flat image and one outside [0, 1].

    Catches in scoring/compressibility.py: JPEG: sign.
    """
    batch = torch.stack([torch.rand(3, 24, 32, generator=generator), torch.full((3, 24, 32), 0.5)])
    batch = torch.cat([batch, 3 * batch[:1] - 1])
    kilobytes = []
    for image in batch:
        pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        path = tmp_path / "image.jpg"
        Image.fromarray(pixels).save(path, quality=quality)
        kilobytes.append(path.stat().st_size / 1000)
    prompts = [""] * 3
    assert JpegCompressibility(quality)(batch, prompts).tolist() == pytest.approx([-size for size in kilobytes])
    assert JpegIncompressibility(quality)(batch, prompts).tolist() == pytest.approx(kilobytes)
    scaled = JpegCompressibility(quality, kilobytes_per_point=500)(batch, prompts)
    assert scaled.tolist() == pytest.approx([-size / 500 for size in kilobytes])
    assert kilobytes[0] > kilobytes[1]
