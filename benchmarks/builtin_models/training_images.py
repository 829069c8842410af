"""Training images for the preference model and the encoders: renders, reconstructions and broken images.

Models that are applied to generated images must be trained on outputs of the pipeline's decoder, including those of
latents that encode no scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor
from training_autoencoder import encode

from drift_pl.builtin.world import ATTRIBUTES, RESOLUTION, Scenes, coverage_masks, join, render, sample_scenes

CHUNK = 250
POOL_IMAGES = 6000
FRESH_RENDERS = 0.4


@dataclass(frozen=True)
class ImageBatch:
    """B images in [0, 1] with the scenes they came from.

    Attributes:
        images_B3HW: float32.
        scenes: the scene behind each image; meaningless where the image is broken.
        intact_B: bool; False for blends, blobs, noise and similar images.
    """

    images_B3HW: Tensor
    scenes: Scenes
    intact_B: Tensor

    def draw(self, count: int, generator: torch.Generator, intact_only: bool = False) -> ImageBatch:
        """``count`` images: a share ``FRESH_RENDERS`` newly rendered, the others from this pool."""
        choices = self.intact_B.nonzero()[:, 0] if intact_only else torch.arange(len(self.intact_B))
        fresh = sample_scenes(int(count * FRESH_RENDERS), generator)
        index = choices[torch.randint(len(choices), (count - len(fresh),), generator=generator)]
        return ImageBatch(
            torch.cat([render(fresh), self.images_B3HW[index]]),
            join([fresh, self.scenes[index]]),
            torch.cat([torch.ones(len(fresh), dtype=torch.bool), self.intact_B[index]]),
        )


@torch.no_grad()
def _decode(autoencoder: AutoencoderKL, latents_NCHW: Tensor) -> Tensor:
    parts = [autoencoder.decode(part).sample / 2.0 + 0.5 for part in latents_NCHW.split(CHUNK)]
    return torch.cat(parts).clamp(0.0, 1.0)


@torch.no_grad()
def _encode(autoencoder: AutoencoderKL, images_N3HW: Tensor) -> Tensor:
    return torch.cat([encode(autoencoder, part) for part in images_N3HW.split(CHUNK)])


def broken_images(autoencoder: AutoencoderKL, count: int, generator: torch.Generator) -> Tensor:
    """Images that show no scene: [about count, 3, H, W], one eighth each of eight kinds."""
    each = max(1, count // 8)
    scenes = [sample_scenes(each, generator) for _ in range(4)]
    first, second, third, fourth = [render(batch) for batch in scenes]
    weight_N111 = 0.35 + 0.3 * torch.rand((each, 1, 1, 1), generator=generator)
    latents = _encode(autoencoder, first)
    other_latents = _encode(autoencoder, second)
    spread = latents.std()
    mask_N1HW = 0.5 * sum(
        coverage_masks(
            (scenes[0].attributes["shape"] + shift) % len(ATTRIBUTES["shape"]), scenes[0].centre_B2, scenes[0].radius_B
        )
        for shift in (0, 1)
    ).unsqueeze(1)
    between = mask_N1HW * scenes[0].object_colour_B3[:, :, None, None]
    between = between + (1.0 - mask_N1HW) * scenes[0].background_colour_B3[:, :, None, None]
    coarse = torch.rand((each, 3, 4, 4), generator=generator)
    halves = torch.where(torch.arange(RESOLUTION)[None, None, None] < RESOLUTION // 2, third, fourth)
    noise_latents = spread * torch.randn(latents.shape, generator=generator)
    return torch.cat(
        [
            torch.lerp(third, fourth, weight_N111),
            _decode(autoencoder, torch.lerp(latents, other_latents, weight_N111)),
            _decode(autoencoder, noise_latents),
            _decode(autoencoder, latents + noise_latents),
            between,
            F.interpolate(coarse, (RESOLUTION, RESOLUTION), mode="bicubic").clamp(0.0, 1.0),
            halves,
            torch.rand((each, 3, 1, 1), generator=generator).expand(-1, -1, RESOLUTION, RESOLUTION).contiguous(),
        ]
    )


def load_pool(state: Path, autoencoder: AutoencoderKL) -> ImageBatch:
    """Noisy reconstructions and, a third of all, broken images; created once and cached in ``state``."""
    path = state / "pool.pt"
    generator = torch.Generator().manual_seed(3)
    scenes = sample_scenes(POOL_IMAGES, generator)
    if not path.exists():
        broken_N3HW = broken_images(autoencoder, POOL_IMAGES // 3, generator)
        latents = _encode(autoencoder, render(scenes[slice(0, POOL_IMAGES - len(broken_N3HW))]))
        strength_N111 = 0.25 * latents.std() * torch.rand((len(latents), 1, 1, 1), generator=generator)
        rebuilt_N3HW = _decode(autoencoder, latents + strength_N111 * torch.randn(latents.shape, generator=generator))
        scratch = path.with_suffix(".tmp")
        torch.save({"rebuilt": rebuilt_N3HW.half(), "broken": broken_N3HW.half()}, scratch)
        scratch.replace(path)
    saved = torch.load(path, weights_only=True)
    images_N3HW = torch.cat([saved["rebuilt"], saved["broken"]]).float()
    return ImageBatch(images_N3HW, scenes, torch.arange(POOL_IMAGES) < len(saved["rebuilt"]))


def augment(images_B3HW: Tensor, generator: torch.Generator) -> Tensor:
    """Slight pixel noise for all and a slight blur for a third: to which a content encoder should be invariant."""
    strength_B111 = 0.04 * torch.rand((len(images_B3HW), 1, 1, 1), generator=generator)
    noisy_B3HW = images_B3HW + strength_B111 * torch.randn(images_B3HW.shape, generator=generator)
    blurred_B3HW = F.avg_pool2d(F.pad(noisy_B3HW, (1, 1, 1, 1), mode="replicate"), 3, 1)
    chosen_B111 = (torch.rand((len(images_B3HW), 1, 1, 1), generator=generator) < 0.33).float()
    return torch.lerp(noisy_B3HW, blurred_B3HW, 0.5 * chosen_B111).clamp(0.0, 1.0)
