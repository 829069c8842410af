"""Joint training of the pipeline's transformer and its two text encoders by rectified flow on cached latents."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from torch import Tensor
from training_autoencoder import encode
from training_state import Stage
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from drift_pl.builtin.captions import random_caption
from drift_pl.builtin.tokenizer import build_tokenizer, text_config
from drift_pl.builtin.world import ATTRIBUTES, render, sample_scenes

TEXT_WIDTH = 64
CACHED_SCENES = 12_000
DROPPED_PROMPTS = 0.1
EMA_DECAY = 0.998


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """An untrained text encoder of two layers; Stable Diffusion 3 uses its second-to-last hidden state."""
    return CLIPTextModelWithProjection(text_config(tokenizer, TEXT_WIDTH, layers=2, projection=TEXT_WIDTH))


def build_transformer(width: int = 128, layers: int = 5) -> SD3Transformer2DModel:
    """An untrained transformer on 16 image tokens (patches of 2x2 latents, 8x8 pixels)."""
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=8,
        out_channels=8,
        num_layers=layers,
        attention_head_dim=32,
        num_attention_heads=width // 32,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=width,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )


def tokenize(tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Token ids [B, 16] as the pipeline makes them."""
    return tokenizer(
        prompts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def embed(encoders: list[CLIPTextModelWithProjection], ids_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Equivalent to the pipeline's ``encode_prompt(max_sequence_length=0)``: [B, 16, 128] and pooled [B, 128]."""
    outputs = [encoder(ids_BL, output_hidden_states=True) for encoder in encoders]
    tokens_BLD = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    return tokens_BLD, torch.cat([output.text_embeds for output in outputs], -1)


@torch.no_grad()
def cache_latents(autoencoder: AutoencoderKL, count: int, seed: int) -> tuple[Tensor, list[dict[str, str]]]:
    """Scaled latents [N, 8, 8, 8] of random scenes, and what each scene shows."""
    scenes = sample_scenes(count, torch.Generator().manual_seed(seed))
    shift, scale = autoencoder.config.shift_factor, autoencoder.config.scaling_factor
    parts = [
        (encode(autoencoder, render(scenes[slice(start, start + 500)])) - shift) * scale
        for start in range(0, count, 500)
    ]
    table = {name: values.tolist() for name, values in scenes.attributes.items()}
    shown = [{name: ATTRIBUTES[name][table[name][i]] for name in ATTRIBUTES} for i in range(count)]
    return torch.cat(parts), shown


def train_denoiser(
    state: Path, autoencoder: AutoencoderKL, steps: int, batch: int = 64, scenes: int = CACHED_SCENES
) -> StableDiffusion3Pipeline:
    """Train and return the whole pipeline with averaged weights; resumes from ``state``.

    Captions are redrawn at every step; a tenth is replaced by the empty prompt, for classifier-free guidance.
    """
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    encoders = [build_text_encoder(tokenizer) for _ in range(2)]
    transformer = build_transformer()
    modules = {"transformer": transformer, "text_encoder": encoders[0], "text_encoder_2": encoders[1]}
    stage = Stage(state / "denoiser.pt", dict(modules), 2e-3, steps, EMA_DECAY, seed=2)
    if stage.step < steps:
        latents_NCHW, shown_N = cache_latents(autoencoder, scenes, seed=2)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        index_B = torch.randint(len(shown_N), (batch,), generator=generator)
        prompts = draw_captions([shown_N[i] for i in index_B.tolist()], random.Random(stage.step))
        return flow_loss(transformer, encoders, tokenize(tokenizer, prompts), latents_NCHW[index_B], generator)

    stage.run(compute_loss)
    stage.use_ema()
    return assemble(autoencoder, tokenizer, encoders, transformer)


def draw_captions(shown_B: Sequence[Mapping[str, str]], words: random.Random) -> list[str]:
    """A caption of each scene, or the empty prompt."""
    return ["" if words.random() < DROPPED_PROMPTS else random_caption(shown, words) for shown in shown_B]


def flow_loss(
    transformer: SD3Transformer2DModel,
    encoders: list[CLIPTextModelWithProjection],
    ids_BL: Tensor,
    clean_BCHW: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, str]:
    """Rectified flow's loss at logit-normal times, and a line for the log."""
    noise_BCHW = torch.randn(clean_BCHW.shape, generator=generator)
    time_B = torch.sigmoid(torch.randn(len(clean_BCHW), generator=generator))
    loss = velocity_loss(transformer, encoders, clean_BCHW, noise_BCHW, time_B, ids_BL)
    return loss, f"loss {loss.item():.4f}"


def velocity_loss(
    transformer: SD3Transformer2DModel,
    encoders: list[CLIPTextModelWithProjection],
    clean_BCHW: Tensor,
    noise_BCHW: Tensor,
    time_B: Tensor,
    ids_BL: Tensor,
) -> Tensor:
    """Mean squared error of the velocity: x_t = (1 - t) x_0 + t noise, the target is noise - x_0."""
    noisy_BCHW = torch.lerp(clean_BCHW, noise_BCHW, time_B[:, None, None, None])
    tokens_BLD, pooled_BD = embed(encoders, ids_BL)
    velocity_BCHW = transformer(
        noisy_BCHW,
        encoder_hidden_states=tokens_BLD,
        pooled_projections=pooled_BD,
        timestep=time_B * 1000.0,
    ).sample
    return (velocity_BCHW - (noise_BCHW - clean_BCHW)).square().mean()


def assemble(
    autoencoder: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    encoders: list[CLIPTextModelWithProjection],
    transformer: SD3Transformer2DModel,
) -> StableDiffusion3Pipeline:
    """The pipeline without T5, in eval mode."""
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=autoencoder,
        text_encoder=encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    for module in (transformer, autoencoder, *encoders):
        module.eval().requires_grad_(False)
    return pipeline
