"""Training images for the emoji world's judges: pictures, reconstructions, and broken images.

Models that are applied to generated images must be trained on outputs of the pipeline's decoder, including those of
latents that encode no picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from emoji_autoencoder import draw_pictures
from torch import Tensor, nn
from training_images import _decode, _encode

from drift_pl.builtin.emoji.pictures import RESOLUTION
from drift_pl.builtin.emoji.things import STYLES, THINGS

POOL_IMAGES = 9000
FRESH_PICTURES = 0.4


@dataclass(frozen=True)
class PictureBatch:
    """B images in [0, 1], what they show (meaningless where broken), and whether they are intact."""

    images_B3HW: Tensor
    thing_B: Tensor
    style_B: Tensor
    intact_B: Tensor

    def to(self, device: str) -> PictureBatch:
        """The same on another device."""
        return PictureBatch(
            *(part.to(device) for part in (self.images_B3HW, self.thing_B, self.style_B, self.intact_B))
        )

    def draw(self, count: int, generator: torch.Generator, intact_only: bool = False) -> PictureBatch:
        """`count` images: a share `FRESH_PICTURES` newly moved pictures, the others from this pool."""
        choices = self.intact_B.nonzero()[:, 0] if intact_only else torch.arange(len(self.intact_B))
        fresh = draw_pictures(int(count * FRESH_PICTURES), generator)
        index = choices[torch.randint(len(choices), (count - len(fresh[0]),), generator=generator)]
        mine = (self.images_B3HW, self.thing_B, self.style_B)
        joined = (torch.cat([new, old[index].to(new.dtype)]) for new, old in zip(fresh, mine, strict=True))
        return PictureBatch(*joined, torch.cat([torch.ones(len(fresh[0]), dtype=torch.bool), self.intact_B[index]]))


class PictureHeads(nn.Module):
    """Linear classifiers of thing and style; discarded after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.thing, self.style = nn.Linear(width, len(THINGS)), nn.Linear(width, len(STYLES))

    def forward(self, features_BD: Tensor, thing_B: Tensor, style_B: Tensor) -> Tensor:
        """Sum of the two cross-entropies."""
        return F.cross_entropy(self.thing(features_BD), thing_B, label_smoothing=0.05) + F.cross_entropy(
            self.style(features_BD), style_B, label_smoothing=0.05
        )


def broken_images(autoencoder: AutoencoderKL, count: int, generator: torch.Generator) -> Tensor:
    """Images that show nothing: [about count, 3, H, W], one seventh each of seven kinds."""
    each = max(1, count // 7)
    first, second, third, fourth = (draw_pictures(each, generator)[0] for _ in range(4))
    weight_N111 = 0.4 + 0.2 * torch.rand((each, 1, 1, 1), generator=generator)
    latents, others = _encode(autoencoder, first), _encode(autoencoder, second)
    noise = latents.std() * torch.randn(latents.shape, generator=generator)
    coarse = torch.rand((each, 3, 4, 4), generator=generator)
    return torch.cat(
        [
            torch.lerp(third, fourth, weight_N111),
            _decode(autoencoder, torch.lerp(latents, others, weight_N111)),
            _decode(autoencoder, noise),
            _decode(autoencoder, latents + 1.5 * noise),
            torch.where(torch.arange(RESOLUTION)[None, None, None] < RESOLUTION // 2, third, fourth),
            F.interpolate(coarse, (RESOLUTION, RESOLUTION), mode="bicubic").clamp(0.0, 1.0),
            torch.rand((each, 3, 1, 1), generator=generator).expand(-1, -1, RESOLUTION, RESOLUTION).contiguous(),
        ]
    )


def load_pool(state: Path, autoencoder: AutoencoderKL) -> PictureBatch:
    """Noisy reconstructions and, a quarter of all, broken images; made once and cached in `state`."""
    path, generator = state / "emoji_pool.pt", torch.Generator().manual_seed(3)
    if not path.exists():
        broken_N3HW = broken_images(autoencoder, POOL_IMAGES // 4, generator)
        images_N3HW, thing_N, style_N = draw_pictures(POOL_IMAGES - len(broken_N3HW), generator)
        latents = _encode(autoencoder, images_N3HW)
        strength_N111 = 0.35 * latents.std() * torch.rand((len(latents), 1, 1, 1), generator=generator)
        rebuilt_N3HW = _decode(autoencoder, latents + strength_N111 * torch.randn(latents.shape, generator=generator))
        content = {"rebuilt": rebuilt_N3HW.half(), "broken": broken_N3HW.half(), "thing": thing_N, "style": style_N}
        scratch = path.with_suffix(".tmp")
        torch.save(content, scratch)
        scratch.replace(path)
    saved = torch.load(path, weights_only=True)
    images_N3HW = torch.cat([saved["rebuilt"], saved["broken"]]).float()
    nothing_N = torch.zeros(len(saved["broken"]), dtype=torch.int64)
    intact_N = torch.arange(len(images_N3HW)) < len(saved["rebuilt"])
    shown = (torch.cat([saved[name], nothing_N]) for name in ("thing", "style"))
    return PictureBatch(images_N3HW, *shown, intact_N)
