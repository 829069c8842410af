"""Train the loose model, a base that ignores half of its prompts: `python benchmarks/builtin_models/loose_train.py`.

The shipped transformer of the world of shapes is trained on with half of the captions exchanged for those of other
scenes, as models of full size ignore hard prompts. Everything else of the pipeline stays as it is, so the folder holds
links to the files that it shares. Resumes from its state, and needs ten minutes of one core.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import ClassVar

import torch
from diffusers import StableDiffusion3Pipeline
from recipe import Recipe, run_stages
from torch import Tensor
from training_denoiser import (
    CACHED_SCENES,
    EMA_DECAY,
    build_transformer,
    cache_latents,
    draw_captions,
    flow_loss,
    tokenize,
)
from training_state import Stage

from drift_pl.builtin import LOOSE, WEIGHTS
from drift_pl.core.shared_parts import SHARED_PARTS

EXCHANGED_CAPTIONS = 0.5
LEARNING_RATE = 1e-3
SEED = 12
"""Of scenes and batches; the other stages of this world have 0 to 8."""


def exchange(prompts: list[str], words: random.Random) -> list[str]:
    """Half of the prompts, chosen at random, go to other images: each to the next of the chosen ones."""
    chosen = [i for i in range(len(prompts)) if words.random() < EXCHANGED_CAPTIONS]
    exchanged = list(prompts)
    for here, there in zip(chosen, [*chosen[1:], *chosen[:1]], strict=True):
        exchanged[here] = prompts[there]
    return exchanged


def train_loose(state: Path, steps: int, batch: int = 64, scenes: int = CACHED_SCENES) -> StableDiffusion3Pipeline:
    """The shipped pipeline with a loosened transformer of averaged weights; resumes from `state`."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(WEIGHTS / "pipeline", text_encoder_3=None, tokenizer_3=None)
    encoders, transformer = [pipeline.text_encoder, pipeline.text_encoder_2], build_transformer()
    transformer.load_state_dict(pipeline.transformer.state_dict())  # a new one names no folder in its config
    pipeline.transformer = transformer
    for module in (pipeline.vae, *encoders):
        module.eval().requires_grad_(False)
    stage = Stage(state / "loose.pt", {"transformer": transformer.train()}, LEARNING_RATE, steps, EMA_DECAY, SEED)
    if stage.step < steps:
        latents_NCHW, shown_N = cache_latents(pipeline.vae, scenes, SEED)

    def compute_loss(generator: torch.Generator) -> tuple[Tensor, str]:
        index_B = torch.randint(len(shown_N), (batch,), generator=generator)
        words = random.Random(stage.step)
        prompts = exchange(draw_captions([shown_N[i] for i in index_B.tolist()], words), words)
        return flow_loss(transformer, encoders, tokenize(pipeline.tokenizer, prompts), latents_NCHW[index_B], generator)

    stage.run(compute_loss)
    stage.use_ema()
    transformer.eval().requires_grad_(False)
    return pipeline


def link_shared(folder: Path, original: Path) -> None:
    """Links of a pipeline's folder to the parts of another one, but for the transformer, and a list of them."""
    parts = sorted(part for part in original.iterdir() if part.name != "transformer")
    for part in parts:
        link = folder / part.name
        if not link.exists():
            link.symlink_to(os.path.relpath(part, folder), target_is_directory=part.is_dir())
    lines = [os.path.relpath(original, folder), *(part.name for part in parts)]
    (folder / SHARED_PARTS).write_text("\n".join(lines) + "\n", encoding="utf-8")


class LooseRecipe(Recipe):
    """The only stage of the loose model."""

    default_steps: ClassVar[dict[str, int]] = {"denoiser": 800}

    def denoiser(self, steps: int) -> None:
        """Train the transformer on; writes `transformer/` and the links beside it."""
        transformer = train_loose(self.state, steps).transformer
        transformer.save_pretrained(self.out / "transformer")
        link_shared(self.out, WEIGHTS / "pipeline")


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_stages(LooseRecipe, LOOSE, __doc__, None)
