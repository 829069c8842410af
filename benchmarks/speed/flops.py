"""FLOPs of networks, counted by torch on the meta device: no weights, no time, any size.

Products of matrices, convolutions and attention count, a multiplication and an addition as two. Element-wise work
(normalisation, activations, sampling steps) does not: it is below one per cent of these networks.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
import transformers
from peft import LoraConfig
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import alexnet, squeezenet1_1, vgg16

from drift_pl.builders.published import CLIPS, PIPELINES, T5_XXL, VISION, VISION_SIDE, Pipeline
from drift_pl.core.locate import locate

META = torch.device("meta")
VAE_FACTOR = 8
FLUX_PATCH = 2
BACKBONES = {"alex": alexnet, "squeeze": squeezenet1_1, "vgg": vgg16}


class Denoiser(NamedTuple):
    """FLOPs of one pass over one image.

    Attributes:
        forward: without gradient.
        both: forward and backward to the adapter; the base is frozen.
        parameters, trained: numbers of them.
    """

    forward: float
    both: float
    parameters: int
    trained: int


def count(work: Callable[[], Any]) -> float:
    """FLOPs of what `work` computes."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return float(counter.get_total_flops())


def empty(*shape: int) -> Tensor:
    return torch.empty(*shape, device=META)


@cache
def pipeline_of(pretrained: str) -> Pipeline:
    """The numbers of a published model, or of a folder in diffusers' format.

    Raises:
        KeyError: a hub id without an entry in `builders/published.py`.
    """
    if not pretrained.startswith("pkg:"):
        return PIPELINES[pretrained]
    folder = locate(pretrained)
    network = diffusers.SD3Transformer2DModel.load_config(folder, subfolder="transformer")
    vae = diffusers.AutoencoderKL.load_config(folder, subfolder="vae")
    tokenizer = transformers.AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
    return Pipeline("SD3Transformer2DModel", network, vae, clip_tokens=tokenizer.model_max_length)


@cache
def denoiser(pretrained: str, side: int | None, t5_tokens: int, rank: int, targets: tuple[str, ...]) -> Denoiser:
    """Of an image of `side` pixels (None: the model's own) under one prompt, with a LoRA of this rank on `targets`."""
    pipeline = pipeline_of(pretrained)
    kind = getattr(diffusers, pipeline.denoiser)
    with META:
        network: nn.Module = kind.from_config(pipeline.config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    network.requires_grad_(False).eval()
    with META:
        network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets)))
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    latent = latent_side(pipeline, side)
    inputs = inputs_of(pipeline, network, latent, pipeline.clip_tokens + (t5_tokens if pipeline.has_t5 else 0))

    def forward() -> Tensor:
        return network(**inputs, return_dict=False)[0]

    with torch.no_grad():
        alone = count(forward)
    return Denoiser(alone, count(lambda: forward().sum().backward()), parameters, trained)


def latent_side(pipeline: Pipeline, side: int | None) -> int:
    return side // VAE_FACTOR if side else int(pipeline.config["sample_size"])


def inputs_of(pipeline: Pipeline, network: Any, latent: int, tokens: int) -> dict[str, Tensor]:
    """Of a single image: latents, prompt, noise level."""
    config, step = network.config, empty(1)
    if pipeline.denoiser == "UNet2DConditionModel":
        text = empty(1, tokens, config.cross_attention_dim)
        return {"sample": empty(1, config.in_channels, latent, latent), "timestep": step, "encoder_hidden_states": text}
    text = empty(1, tokens, config.joint_attention_dim)
    shared = {
        "timestep": step,
        "encoder_hidden_states": text,
        "pooled_projections": empty(1, config.pooled_projection_dim),
    }
    if pipeline.denoiser == "SD3Transformer2DModel":
        return {"hidden_states": empty(1, config.in_channels, latent, latent), **shared}
    image_tokens = (latent // FLUX_PATCH) ** 2
    positions = {"txt_ids": empty(tokens, 3), "img_ids": empty(image_tokens, 3)}
    return {"hidden_states": empty(1, image_tokens, config.in_channels), "guidance": step, **shared, **positions}


@cache
def decoding(pretrained: str, side: int | None) -> float:
    """Of one image's latents to pixels."""
    pipeline = pipeline_of(pretrained)
    latent = latent_side(pipeline, side)
    with META:
        vae = diffusers.AutoencoderKL.from_config(pipeline.vae)
    with torch.no_grad():
        return count(lambda: vae.decode(empty(1, vae.config.latent_channels, latent, latent)))


@cache
def text_encoding(pretrained: str, t5_tokens: int) -> float:
    """Of one prompt, by all text encoders; each text is encoded once per run."""
    pipeline, total = pipeline_of(pretrained), 0.0
    parts = [
        (name, getattr(transformers, name.replace("WithProjection", "")).config_class(**config), tokens)
        for name, config, tokens in pipeline.clip
    ]
    if pipeline.has_t5 and t5_tokens:
        parts.append(("T5EncoderModel", transformers.T5Config(**T5_XXL), t5_tokens))
    for name, config, tokens in parts:
        with META:
            model = getattr(transformers, name)(config)
        ids = torch.zeros(1, tokens, dtype=torch.long, device=META)
        with torch.no_grad():
            total += count(lambda model=model, ids=ids: model(input_ids=ids))
    return total


@cache
def vision(pretrained: str) -> float:
    """Of one image through a reward's or an encoder's image network; a prompt's text is encoded once and left out.

    Raises:
        KeyError: a hub id without an entry in `builders/published.py`.
    """
    if pretrained.startswith("pkg:"):
        config = transformers.AutoConfig.from_pretrained(locate(pretrained))
        kind = transformers.AutoModel
        with META:
            model = kind.from_config(config)
        side = getattr(config, "vision_config", config).image_size
    elif pretrained in CLIPS:
        with META:
            model = transformers.CLIPModel(transformers.CLIPConfig(**CLIPS[pretrained]))
        side = VISION_SIDE
    else:
        name, numbers = VISION[pretrained]
        kind = getattr(transformers, name)
        with META:
            model = kind(kind.config_class(**numbers))
        side = VISION_SIDE
    model.float().eval()  # as stored it may be in half precision, and counts do not depend on it
    call = model.get_image_features if hasattr(model, "get_image_features") else model
    with torch.no_grad():
        return count(lambda: call(pixel_values=empty(1, 3, side, side)))


@cache
def perceptual(pretrained: str, side: int) -> float:
    """Of one image of `side` pixels through the backbone of LPIPS: torchvision's, or the one that a folder names."""
    if pretrained.startswith("pkg:"):
        described = json.loads((Path(locate(pretrained)) / "config.json").read_text(encoding="utf-8"))
        pretrained, side = described["net"], described["resize"] or side
    with META:
        backbone = BACKBONES[pretrained]().features
    with torch.no_grad():
        return count(lambda: backbone(empty(1, 3, side, side)))
