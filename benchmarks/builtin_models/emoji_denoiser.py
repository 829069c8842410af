"""Joint training of the emoji pipeline's transformer and its two text encoders by rectified flow on cached latents."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from emoji_autoencoder import LARGEST_SHIFT
from torch import Tensor
from training_autoencoder import encode
from training_denoiser import DROPPED_PROMPTS, assemble, build_text_encoder, build_transformer, embed, tokenize
from training_state import Stage

from drift_pl.builtin.emoji.captions import random_caption, vocabulary
from drift_pl.builtin.emoji.pictures import load_pictures, transformed
from drift_pl.builtin.tokenizer import build_tokenizer

WIDTH, LAYERS = 160, 6
EMA_DECAY = 0.998
MAX_TOKENS = 12
"""Of a text with its two special tokens: "a picture of a black and white land animal" has eleven."""


@torch.no_grad()
def cache_latents(autoencoder: AutoencoderKL) -> Tensor:
    """Scaled latents of every picture, mirrored or not, at every shift: [V, T, S, 8, 8, 8], V variants."""
    pictures = load_pictures()
    flat_B3HW, parts = pictures.flatten(0, 1), []
    shifts = range(-LARGEST_SHIFT, LARGEST_SHIFT + 1)
    for flip, x, y in product((False, True), shifts, shifts):
        moved_B3HW = transformed(flat_B3HW, torch.tensor([flip]), torch.tensor([[x, y]]))
        parts.append(encode(autoencoder, moved_B3HW).unflatten(0, pictures.shape[:2]))
    shift, scale = autoencoder.config.shift_factor, autoencoder.config.scaling_factor
    return (torch.stack(parts) - shift) * scale


def train_denoiser(state: Path, autoencoder: AutoencoderKL, steps: int, batch: int = 64) -> StableDiffusion3Pipeline:
    """Train and return the whole pipeline with averaged weights; resumes from `state`.

    As for the world of shapes: x_t = (1 - t) x_0 + t noise, the target is noise - x_0, t is logit-normal; captions are
    redrawn at every step, a tenth is empty.
    """
    torch.manual_seed(0)
    tokenizer = build_tokenizer(vocabulary(), MAX_TOKENS)
    encoders = [build_text_encoder(tokenizer) for _ in range(2)]
    transformer = build_transformer(WIDTH, LAYERS)
    modules = {"transformer": transformer, "text_encoder": encoders[0], "text_encoder_2": encoders[1]}
    stage = Stage(state / "emoji_denoiser.pt", dict(modules), 1.5e-3, steps, EMA_DECAY, seed=2)
    if stage.step < steps:
        latents_VTSCHW = cache_latents(autoencoder)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        variant_B, thing_B, style_B = (
            torch.randint(size, (batch,), generator=generator) for size in latents_VTSCHW.shape[:3]
        )
        words = random.Random(stage.step)
        prompts = [
            "" if words.random() < DROPPED_PROMPTS else random_caption(thing, style, words)
            for thing, style in zip(thing_B.tolist(), style_B.tolist(), strict=True)
        ]
        clean_BCHW = latents_VTSCHW[variant_B, thing_B, style_B]
        noise_BCHW = torch.randn(clean_BCHW.shape, generator=generator)
        time_B = torch.sigmoid(torch.randn(batch, generator=generator))
        noisy_BCHW = torch.lerp(clean_BCHW, noise_BCHW, time_B[:, None, None, None])
        tokens_BLD, pooled_BD = embed(encoders, tokenize(tokenizer, prompts))
        velocity_BCHW = transformer(
            noisy_BCHW,
            encoder_hidden_states=tokens_BLD,
            pooled_projections=pooled_BD,
            timestep=time_B * 1000.0,
        ).sample
        loss = (velocity_BCHW - (noise_BCHW - clean_BCHW)).square().mean()
        return loss, f"loss {loss.item():.4f}"

    stage.run(compute_loss)
    stage.use_ema()
    return assemble(autoencoder, tokenizer, encoders, transformer)
