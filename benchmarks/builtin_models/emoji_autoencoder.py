"""The emoji world's autoencoder: the built-in one, trained on with pictograms."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from training_autoencoder import build_autoencoder, finish_autoencoder
from training_state import Stage

from drift_pl.builtin import WEIGHTS as SHAPES
from drift_pl.builtin.emoji.pictures import load_pictures, transformed

LATENT_NOISE = 0.05
NORM_WEIGHT, EDGE_WEIGHT = 1e-3, 0.5
LARGEST_SHIFT = 2
"""Pixels by which a training picture is moved, in each direction, at most."""


def draw_pictures(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random pictures, half of them mirrored, all moved a little: [B, 3, H, W] in [0, 1], their things and styles."""
    pictures = load_pictures()
    thing_B = torch.randint(pictures.shape[0], (count,), generator=generator)
    style_B = torch.randint(pictures.shape[1], (count,), generator=generator)
    flip_B = torch.rand(count, generator=generator) < 0.5
    shift_B2 = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (count, 2), generator=generator)
    return transformed(pictures[thing_B, style_B], flip_B, shift_B2), thing_B, style_B


def edges(images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbouring pixels, along rows and along columns."""
    return images_B3HW.diff(dim=3), images_B3HW.diff(dim=2)


def train_autoencoder(state: Path, steps: int, device: str = "cpu", batch: int = 32) -> AutoencoderKL:
    """L1 on pixels and on their edges, latent noise and a weak norm penalty; resumes from `state`."""
    torch.manual_seed(0)
    autoencoder = build_autoencoder().to(memory_format=torch.channels_last)
    autoencoder.load_state_dict(AutoencoderKL.from_pretrained(SHAPES / "pipeline" / "vae").state_dict())
    autoencoder.requires_grad_(True)
    stage = Stage(state / "emoji_autoencoder.pt", {"autoencoder": autoencoder}, 2e-3, steps, device=device)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        images_B3HW, _, _ = draw_pictures(batch, generator)
        target_B3HW = (images_B3HW * 2.0 - 1.0).to(device).contiguous(memory_format=torch.channels_last)
        latents_BCHW = autoencoder.encode(target_B3HW).latent_dist.mode()
        noise_BCHW = LATENT_NOISE * torch.randn(latents_BCHW.shape, generator=generator).to(device)
        error_B3HW = autoencoder.decode(latents_BCHW + noise_BCHW).sample - target_B3HW
        on_edges = sum(part.abs().mean() for part in edges(error_B3HW))
        loss = error_B3HW.abs().mean() + EDGE_WEIGHT * on_edges + NORM_WEIGHT * latents_BCHW.square().mean()
        return loss, f"loss {loss.item():.4f} mse {error_B3HW.square().mean().item():.5f}"

    stage.run(compute_loss)
    finish_autoencoder(autoencoder.cpu(), load_pictures().flatten(0, 1))
    return autoencoder.eval().requires_grad_(False)
