"""The emoji world's image encoders: DINOv2 format for shaping, ConvNeXt for evaluation, SqueezeNet for LPIPS."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from emoji_pool import PictureHeads, load_pool
from torch import Tensor, nn
from torchmetrics.functional.image.lpips import _NoTrainLpips
from training_encoders import LPIPS_RESIZE, build_evaluation_encoder, build_shaping_encoder, embed_images
from training_images import augment
from training_state import Stage
from transformers import ConvNextModel, Dinov2Model


def train_shaping_encoder(
    state: Path, autoencoder: AutoencoderKL, steps: int, device: str = "cpu", batch: int = 128
) -> Dinov2Model:
    """Metric regression: the cosine of all pairs of a batch is (same thing + same style) / 2, each 0 or 1."""
    torch.manual_seed(0)
    model = build_shaping_encoder()
    modules: dict[str, nn.Module] = {"encoder": model, "heads": PictureHeads(model.config.hidden_size)}
    stage = Stage(state / "emoji_shaping_encoder.pt", modules, 1.5e-3, steps, ema_decay=0.995, seed=4, device=device)
    pool = load_pool(state, autoencoder)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        drawn = pool.draw(batch, generator, intact_only=True)
        images_B3HW, drawn = augment(drawn.images_B3HW, generator).to(device), drawn.to(device)
        unit_BD = embed_images(model, images_B3HW)
        same = [values[:, None] == values[None] for values in (drawn.thing_B, drawn.style_B)]
        loss = (unit_BD @ unit_BD.T - (same[0].float() + same[1].float()) / 2).square().mean()
        auxiliary = modules["heads"](8.0 * unit_BD, drawn.thing_B, drawn.style_B)
        return loss + 0.05 * auxiliary, f"rms error {loss**0.5:.4f} heads {auxiliary:.2f}"

    stage.run(compute_loss)
    stage.use_ema()
    return model.cpu().eval().requires_grad_(False)


def train_evaluation_encoder(
    state: Path, autoencoder: AutoencoderKL, steps: int, device: str = "cpu", batch: int = 128
) -> ConvNextModel:
    """Classification of thing and style from the pooled, normalized embedding."""
    torch.manual_seed(0)
    model = build_evaluation_encoder().to(memory_format=torch.channels_last)
    modules: dict[str, nn.Module] = {"encoder": model, "heads": PictureHeads(model.config.hidden_sizes[-1])}
    stage = Stage(state / "emoji_evaluation_encoder.pt", modules, 2e-3, steps, ema_decay=0.995, seed=5, device=device)
    pool = load_pool(state, autoencoder)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        drawn = pool.draw(batch, generator, intact_only=True)
        images_B3HW, drawn = augment(drawn.images_B3HW, generator).to(device), drawn.to(device)
        unit_BD = embed_images(model, images_B3HW)
        loss = modules["heads"](8.0 * unit_BD, drawn.thing_B, drawn.style_B)
        return loss, f"loss {loss:.3f}"

    stage.run(compute_loss)
    stage.use_ema()
    return model.cpu().eval().requires_grad_(False)


def train_lpips(
    state: Path, autoencoder: AutoencoderKL, steps: int, device: str = "cpu", batch: int = 64
) -> _NoTrainLpips:
    """A SqueezeNet with heads for thing and style on each of its seven feature maps; uniform linear heads for LPIPS."""
    torch.manual_seed(0)
    model = _NoTrainLpips(net="squeeze", pretrained=False, pnet_rand=True)
    model.requires_grad_(False)
    model.net.requires_grad_(True)
    heads = nn.ModuleList(PictureHeads(2 * channels) for channels in model.chns)
    stage = Stage(state / "emoji_lpips.pt", {"lpips": model, "heads": heads}, 1e-3, steps, seed=6, device=device)
    pool = load_pool(state, autoencoder)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        drawn = pool.draw(batch, generator, intact_only=True)
        images_B3HW, drawn = augment(drawn.images_B3HW, generator).to(device), drawn.to(device)
        images_B3HW = F.interpolate(images_B3HW, (LPIPS_RESIZE, LPIPS_RESIZE), mode="bilinear")
        maps = model.net(model.scaling_layer(images_B3HW * 2.0 - 1.0))
        pooled = [torch.cat([m.mean((2, 3)), m.amax((2, 3))], 1) for m in maps]
        losses = [head(part, drawn.thing_B, drawn.style_B) for head, part in zip(heads, pooled, strict=True)]
        return torch.stack(losses).mean(), f"loss of the last map {losses[-1]:.3f}"

    stage.run(compute_loss)
    for linear in model.lins:
        linear.model[-1].weight.data.fill_(1.0 / linear.model[-1].weight.shape[1])
    return model.cpu().eval().requires_grad_(False)
