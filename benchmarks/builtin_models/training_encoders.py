"""Training of the image encoders: DINOv2 format for shaping, ConvNeXt for evaluation, SqueezeNet for LPIPS.

They differ in architecture and training objective, so that a gain measured by one is not built into the other.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torchmetrics.functional.image.lpips import _NoTrainLpips
from training_heads import AttributeHeads
from training_images import augment, load_pool
from training_state import Stage
from transformers import BitImageProcessor, ConvNextConfig, ConvNextModel, Dinov2Config, Dinov2Model

from drift_pl.builtin.world import ATTRIBUTES, RESOLUTION, differing_attributes

LPIPS_RESIZE = 64


def build_processor() -> BitImageProcessor:
    """32x32, mean and std 0.5."""
    return BitImageProcessor(
        size={"shortest_edge": RESOLUTION},
        crop_size={"height": RESOLUTION, "width": RESOLUTION},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        do_convert_rgb=True,
    )


def build_shaping_encoder() -> Dinov2Model:
    """An untrained DINOv2: patch 4, width 96, 3 layers."""
    config = Dinov2Config(
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=3,
        mlp_ratio=4,
        image_size=RESOLUTION,
        patch_size=4,
        layerscale_value=0.5,
    )
    model = Dinov2Model(config)
    model.embeddings.mask_token.requires_grad_(False)
    return model


def build_evaluation_encoder() -> ConvNextModel:
    """An untrained ConvNeXt: stem 2, three stages."""
    return ConvNextModel(
        ConvNextConfig(patch_size=2, num_stages=3, hidden_sizes=[32, 64, 128], depths=[1, 2, 2], image_size=RESOLUTION)
    )


def embed_images(encoder: nn.Module, images_B3HW: Tensor) -> Tensor:
    """Unit embeddings [B, D] of images in [0, 1] by either encoder."""
    pooled_BD = encoder(pixel_values=(images_B3HW - 0.5) / 0.5).pooler_output
    return pooled_BD / pooled_BD.norm(dim=-1, keepdim=True)


def train_shaping_encoder(state: Path, autoencoder: AutoencoderKL, steps: int, batch: int = 48) -> Dinov2Model:
    """Metric regression: cosine of all pairs of a batch = 1 - share of differing attributes.

    Attribute heads help early in training and are discarded.
    """
    torch.manual_seed(0)
    model = build_shaping_encoder()
    modules: dict[str, nn.Module] = {"encoder": model, "heads": AttributeHeads(model.config.hidden_size)}
    stage = Stage(state / "shaping_encoder.pt", modules, 1.5e-3, steps, ema_decay=0.995, seed=4)
    pool = load_pool(state, autoencoder)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        drawn = pool.draw(batch, generator, intact_only=True)
        embeddings_BD = embed_images(model, augment(drawn.images_B3HW, generator))
        rows = {name: values[:, None] for name, values in drawn.scenes.attributes.items()}
        columns = {name: values[None, :] for name, values in drawn.scenes.attributes.items()}
        target_BB = 1.0 - differing_attributes(rows, columns) / len(ATTRIBUTES)
        loss = (embeddings_BD @ embeddings_BD.T - target_BB).square().mean()
        auxiliary = modules["heads"](8.0 * embeddings_BD, drawn.scenes)
        return loss + 0.05 * auxiliary, f"rms error {loss.item() ** 0.5:.4f} heads {auxiliary.item():.2f}"

    stage.run(compute_loss)
    stage.use_ema()
    return model.eval().requires_grad_(False)


def train_evaluation_encoder(state: Path, autoencoder: AutoencoderKL, steps: int, batch: int = 48) -> ConvNextModel:
    """Classification of the attributes from the pooled, normalized embedding."""
    torch.manual_seed(0)
    model = build_evaluation_encoder().to(memory_format=torch.channels_last)
    heads = AttributeHeads(model.config.hidden_sizes[-1])
    modules: dict[str, nn.Module] = {"encoder": model, "heads": heads}
    stage = Stage(state / "evaluation_encoder.pt", modules, 2e-3, steps, ema_decay=0.995, seed=5)
    pool = load_pool(state, autoencoder)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        drawn = pool.draw(batch, generator, intact_only=True)
        unit_BD = embed_images(model, augment(drawn.images_B3HW, generator))
        # heads on the unit embedding: what they separate, the cosine distance separates too
        loss = heads(8.0 * unit_BD, drawn.scenes)
        return loss, f"loss {loss.item():.3f}"

    stage.run(compute_loss)
    stage.use_ema()
    return model.eval().requires_grad_(False)


def train_lpips(state: Path, autoencoder: AutoencoderKL, steps: int, batch: int = 48) -> _NoTrainLpips:
    """A SqueezeNet with attribute heads on every one of its seven feature maps; uniform linear heads for LPIPS.

    torchmetrics' linear heads were fitted to the ImageNet backbone and are meaningless for this one, so each becomes
    1 / channels: the distance is the mean over channels of squared differences of unit-normalised features.
    """
    torch.manual_seed(0)
    model = _NoTrainLpips(net="squeeze", pretrained=False, pnet_rand=True)
    model.requires_grad_(False)
    model.net.requires_grad_(True)
    heads = nn.ModuleList(AttributeHeads(2 * channels) for channels in model.chns)
    modules: dict[str, nn.Module] = {"lpips": model, "heads": heads}
    stage = Stage(state / "lpips.pt", modules, 1e-3, steps, seed=6)
    pool = load_pool(state, autoencoder)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        drawn = pool.draw(batch, generator, intact_only=True)
        images_B3HW = augment(drawn.images_B3HW, generator)
        images_B3HW = F.interpolate(images_B3HW, (LPIPS_RESIZE, LPIPS_RESIZE), mode="bilinear")
        maps = model.net(model.scaling_layer(images_B3HW * 2.0 - 1.0))
        pooled = [torch.cat([m.mean((2, 3)), m.amax((2, 3))], 1) for m in maps]
        scenes = drawn.scenes
        losses = [head(features_BD, scenes) for head, features_BD in zip(heads, pooled, strict=True)]
        return torch.stack(losses).mean(), f"loss of the last map {losses[-1].item():.3f}"

    stage.run(compute_loss)
    for linear in model.lins:
        linear.model[-1].weight.data.fill_(1.0 / linear.model[-1].weight.shape[1])
    return model.eval().requires_grad_(False)
