"""What a denoiser is called with for one image or video under one prompt, on the meta device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from drift_pl.builders.published import Pipeline

META = torch.device("meta")
PATCH = 2
"""Latents per token along a side, where the pipeline makes the tokens."""
VIDEO = 832 / 480
"""Width of a video to its height."""


class Size(NamedTuple):
    """Latents of an image, or of a video of that many latent frames."""

    height: int
    width: int
    frames: int = 1


def empty(*shape: int) -> Tensor:
    return torch.empty(*shape, device=META)


def size_of(pipeline: Pipeline, side: int | None, frames: int) -> Size:
    """Of `side` pixels; None: of the model's own."""
    kind, vae = pipeline.denoiser, pipeline.vae
    factor = {"SanaTransformer2DModel": 32, "WanTransformer3DModel": vae.get("scale_factor_spatial", 8)}.get(kind, 8)
    own = {"SanaTransformer2DModel": 32, "WanTransformer3DModel": 480 // factor}.get(kind, 128)
    height = side // factor if side else int(pipeline.config.get("sample_size", own))
    if kind != "WanTransformer3DModel":
        return Size(height, height)
    return Size(height, round(height * VIDEO / PATCH) * PATCH, (frames - 1) // 4 + 1)


def decoder_input(vae: Any, size: Size) -> Tensor:
    """Latents of an autoencoder."""
    config = vae.config
    if "z_dim" in config:
        return empty(1, config.z_dim, size.frames, size.height, size.width)
    return empty(1, config.latent_channels, size.height, size.width)


def inputs_of(network: nn.Module, size: Size, tokens: int) -> dict[str, Any]:
    """Of a single image: latents, prompt of `tokens`, noise level."""
    return INPUTS[type(network).__name__](network.config, size, tokens, empty(1))


def _unet(config: Any, size: Size, tokens: int, step: Tensor) -> dict[str, Any]:
    text = empty(1, tokens, config.cross_attention_dim)
    return {"sample": _latents(config, size), "timestep": step, "encoder_hidden_states": text}


def _sd3(config: Any, size: Size, tokens: int, step: Tensor) -> dict[str, Any]:
    pooled = empty(1, config.pooled_projection_dim)
    text = empty(1, tokens, config.joint_attention_dim)
    latents = {"hidden_states": _latents(config, size), "timestep": step}
    return {**latents, "encoder_hidden_states": text, "pooled_projections": pooled}


def _flux(config: Any, size: Size, tokens: int, step: Tensor) -> dict[str, Any]:
    pooled = {"pooled_projections": empty(1, config.pooled_projection_dim), "guidance": step}
    return {**_packed(config, size, tokens, step), **pooled, **_positions(size, tokens, 3)}


def _klein(config: Any, size: Size, tokens: int, step: Tensor) -> dict[str, Any]:
    return {**_packed(config, size, tokens, step), "guidance": None, **_positions(size, tokens, 4)}


def _qwen(config: Any, size: Size, tokens: int, step: Tensor) -> dict[str, Any]:
    return {**_packed(config, size, tokens, step), "img_shapes": [[(1, size.height // PATCH, size.width // PATCH)]]}


def _zimage(config: Any, size: Size, tokens: int, step: Tensor) -> dict[str, Any]:
    images, texts = [empty(config.in_channels, 1, size.height, size.width)], [empty(tokens, config.cap_feat_dim)]
    return {"x": images, "t": step, "cap_feats": texts}


def _sana(config: Any, size: Size, tokens: int, step: Tensor) -> dict[str, Any]:
    text = empty(1, tokens, config.caption_channels)
    return {"hidden_states": _latents(config, size), "timestep": step, "encoder_hidden_states": text}


def _wan(config: Any, size: Size, tokens: int, step: Tensor) -> dict[str, Any]:
    latents = empty(1, config.in_channels, size.frames, size.height, size.width)
    return {"hidden_states": latents, "timestep": step, "encoder_hidden_states": empty(1, tokens, config.text_dim)}


def _latents(config: Any, size: Size) -> Tensor:
    return empty(1, config.in_channels, size.height, size.width)


def _packed(config: Any, size: Size, tokens: int, step: Tensor) -> dict[str, Any]:
    image_tokens = size.height * size.width // PATCH**2
    text = empty(1, tokens, config.joint_attention_dim)
    return {
        "hidden_states": empty(1, image_tokens, config.in_channels),
        "timestep": step,
        "encoder_hidden_states": text,
    }


def _positions(size: Size, tokens: int, axes: int) -> dict[str, Any]:
    return {"txt_ids": empty(tokens, axes), "img_ids": empty(size.height * size.width // PATCH**2, axes)}


INPUTS: dict[str, Callable[[Any, Size, int, Tensor], dict[str, Any]]] = {
    "UNet2DConditionModel": _unet,
    "SD3Transformer2DModel": _sd3,
    "FluxTransformer2DModel": _flux,
    "Flux2Transformer2DModel": _klein,
    "QwenImageTransformer2DModel": _qwen,
    "ZImageTransformer2DModel": _zimage,
    "SanaTransformer2DModel": _sana,
    "WanTransformer3DModel": _wan,
}
"""Class of diffusers -> how it is called."""
