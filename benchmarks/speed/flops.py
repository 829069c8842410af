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
from speed.network_inputs import META, decoder_input, inputs_of, size_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import alexnet, squeezenet1_1, vgg16

from drift_pl.builders.planned_source import text_network, vae_class
from drift_pl.builders.published import CLIPS, PIPELINES, VISION, VISION_SIDE, Pipeline
from drift_pl.core.locate import locate

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
def denoiser(
    pretrained: str, side: int | None, text_tokens: int, rank: int, targets: tuple[str, ...], frames: int = 1
) -> Denoiser:
    """Of an image of `side` pixels (None: the model's own) under one prompt, with a LoRA of this rank on `targets`.

    Args:
        text_tokens: of the text encoder whose length is a setting.
        frames: of a video.
    """
    pipeline = pipeline_of(pretrained)
    kind = getattr(diffusers, pipeline.denoiser)
    with META:
        network: nn.Module = kind.from_config(pipeline.config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    network.requires_grad_(False).eval()
    with META:
        network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets)))
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    tokens = pipeline.clip_tokens + (text_tokens if pipeline.sized else 0)
    inputs = inputs_of(network, size_of(pipeline, side, frames), tokens)

    def forward() -> Tensor:
        found = network(**inputs, return_dict=False)[0]
        return torch.stack(found) if isinstance(found, list) else found

    with torch.no_grad():
        alone = count(forward)
    return Denoiser(alone, count(lambda: forward().sum().backward()), parameters, trained)


@cache
def decoding(pretrained: str, side: int | None, frames: int = 1) -> float:
    """Of one image's latents to pixels, or one video's."""
    pipeline = pipeline_of(pretrained)
    with META:
        vae = getattr(diffusers, vae_class(pipeline)).from_config(pipeline.vae)
    latents = decoder_input(vae, size_of(pipeline, side, frames))
    with torch.no_grad():
        return count(lambda: vae.decode(latents))


@cache
def text_encoding(pretrained: str, text_tokens: int) -> float:
    """Of one prompt, by all text encoders; each text is encoded once per run.

    A language model's share is that of its linear layers but the last, which the pipelines do not need.
    """
    pipeline, total = pipeline_of(pretrained), 0.0
    parts = [((name, config), tokens) for name, config, tokens in pipeline.clip]
    if pipeline.sized and text_tokens:
        parts.append((pipeline.sized, text_tokens))
    for encoder, tokens in parts:
        with META:
            model: Any = text_network(encoder)
        model = getattr(getattr(model, "model", model), "language_model", model)
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
        return count(lambda: call(pixel_values=torch.empty(1, 3, side, side, device=META)))


@cache
def perceptual(pretrained: str, side: int) -> float:
    """Of one image of `side` pixels through the backbone of LPIPS: torchvision's, or the one that a folder names."""
    if pretrained.startswith("pkg:"):
        described = json.loads((Path(locate(pretrained)) / "config.json").read_text(encoding="utf-8"))
        pretrained, side = described["net"], described["resize"] or side
    with META:
        backbone = BACKBONES[pretrained]().features
    with torch.no_grad():
        return count(lambda: backbone(torch.empty(1, 3, side, side, device=META)))
