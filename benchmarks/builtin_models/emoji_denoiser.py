"""Joint training of the emoji pipeline's transformer and its two text encoders by rectified flow on cached latents."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from torch import Tensor
from training_autoencoder import encode
from training_denoiser import (
    DROPPED_PROMPTS,
    assemble,
    build_text_encoder,
    build_transformer,
    tokenize,
    velocity_loss,
)
from training_state import Stage
from transformers import CLIPTokenizer

from drift_pl.builtin.emoji.captions import random_caption, vocabulary
from drift_pl.builtin.emoji.pictures import load_pictures, transformed
from drift_pl.builtin.emoji.things import STYLES, THINGS
from drift_pl.builtin.tokenizer import build_tokenizer

WIDTH, LAYERS = 192, 6
EMA_DECAY = 0.998
MAX_TOKENS = 12
"""Of a text with its two special tokens: "a picture of a black and white land animal" has eleven."""
LARGEST_SHIFT = 1
"""Of the pictures that the transformer learns; the other models see shifts of two pixels."""
CAPTIONS = 200
"""Texts drawn for every picture, once; a tenth is empty."""
EAGER_STEPS = 300
"""On a GPU, later steps replay a CUDA graph: the average's weight is constant by then."""


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


def cache_captions(tokenizer: CLIPTokenizer) -> Tensor:
    """Token ids of captions of every picture: [CAPTIONS, T, S, L]."""
    words = random.Random(2)
    texts = [
        "" if words.random() < DROPPED_PROMPTS else random_caption(thing, style, words)
        for _ in range(CAPTIONS)
        for thing, style in product(range(len(THINGS)), range(len(STYLES)))
    ]
    return tokenize(tokenizer, texts).view(CAPTIONS, len(THINGS), len(STYLES), -1)


def train_denoiser(
    state: Path, autoencoder: AutoencoderKL, steps: int, device: str = "cpu", batch: int = 256
) -> StableDiffusion3Pipeline:
    """Train and return the whole pipeline with averaged weights; resumes from `state`.

    As for the world of shapes: x_t = (1 - t) x_0 + t noise, the target is noise - x_0, t is logit-normal; a tenth of
    the captions is empty.
    """
    torch.manual_seed(0)
    tokenizer = build_tokenizer(vocabulary(), MAX_TOKENS)
    encoders = [build_text_encoder(tokenizer) for _ in range(2)]
    transformer = build_transformer(WIDTH, LAYERS)
    modules = {"transformer": transformer, "text_encoder": encoders[0], "text_encoder_2": encoders[1]}
    stage = Stage(state / "emoji_denoiser.pt", dict(modules), 1.5e-3, steps, EMA_DECAY, seed=2, device=device)
    if stage.step < steps:
        latents_VTSCHW, ids_CTSL = cache_latents(autoencoder), cache_captions(tokenizer)

    def draw(generator: torch.Generator) -> list[Tensor]:
        """Clean latents, noise, time and token ids of a batch, on the device."""
        sizes = (len(latents_VTSCHW), *ids_CTSL.shape[:3])
        variant_B, caption_B, thing_B, style_B = (torch.randint(n, (batch,), generator=generator) for n in sizes)
        clean_BCHW = latents_VTSCHW[variant_B, thing_B, style_B]
        noise_BCHW = torch.randn(clean_BCHW.shape, generator=generator)
        time_B = torch.sigmoid(torch.randn(batch, generator=generator))
        drawn = (clean_BCHW, noise_BCHW, time_B, ids_CTSL[caption_B, thing_B, style_B])
        return [part.to(device, non_blocking=True) for part in drawn]

    loss_of = partial(velocity_loss, transformer, encoders)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        loss = loss_of(*draw(generator))
        return loss, f"loss {loss.detach():.4f}"

    if torch.device(device).type == "cuda" and stage.step < steps:
        torch.set_float32_matmul_precision("high")  # TF32
        run_captured(stage, draw, loss_of, compute_loss)
    stage.run(compute_loss)
    stage.use_ema()
    for module in modules.values():
        module.cpu()
    return assemble(autoencoder, tokenizer, encoders, transformer)


def run_captured(
    stage: Stage,
    draw: Callable[[torch.Generator], list[Tensor]],
    loss_of: Callable[..., Tensor],
    compute_loss: Callable[[torch.Generator], tuple[Tensor, str]],
) -> None:
    """Train by replaying one optimizer step as a CUDA graph: the same steps, without the CPU's time per kernel."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        while stage.step < min(stage.steps, EAGER_STEPS):
            stage.update(compute_loss(stage.generator())[0])
    torch.cuda.current_stream().wait_stream(side)
    if stage.step >= stage.steps:
        return
    inputs, graph = draw(stage.generator()), torch.cuda.CUDAGraph()
    stage.set_rates()
    stage.optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        loss = loss_of(*inputs)
        stage.descend(loss)
    while stage.step < stage.steps:
        stage.set_rates()
        for buffer, part in zip(inputs, draw(stage.generator()), strict=True):
            buffer.copy_(part, non_blocking=True)
        graph.replay()
        stage.step += 1
        if stage.is_due(500):
            print(f"{stage.path.stem} {stage.step}/{stage.steps} loss {loss.item():.4f}", flush=True)
        if stage.is_due(5000):
            stage.save()
