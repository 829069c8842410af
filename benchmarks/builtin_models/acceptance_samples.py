"""Samples of the built-in pipeline, measured by the attribute reader."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from drift_pl.builtin.captions import parse, parse_indices
from drift_pl.builtin.reader import AttributeReader, coverage, shows
from drift_pl.builtin.world import render, sample_scenes

IMAGES_PER_CALL = 128


def load_pipeline(weights: Path) -> StableDiffusion3Pipeline:
    """The pipeline on the CPU; the missing third encoder must be passed as None, or diffusers rejects the folder."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(weights / "pipeline", text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def sample_images(
    pipeline: StableDiffusion3Pipeline, prompt: str, count: int, guidance: float, steps: int, seed: int
) -> Tensor:
    """``count`` images of one prompt by the deterministic sampler, float32 [S, 3, H, W] in [0, 1]."""
    parts = []
    for start in range(0, count, IMAGES_PER_CALL):
        output = pipeline(
            prompt,
            num_images_per_prompt=min(IMAGES_PER_CALL, count - start),
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_sequence_length=0,
            generator=torch.Generator().manual_seed(seed + start),
            output_type="pt",
        )
        parts.append(output.images.float().cpu())
    return torch.cat(parts)


def measure(images_PS3HW: list[Tensor], prompts: list[str]) -> dict[str, float]:
    """Means over prompts: share readable, ``alignment`` and ``coverage``."""
    reader = AttributeReader()
    totals = {"readable": 0.0, "alignment": 0.0, "coverage": 0.0}
    for images_S3HW, prompt in zip(images_PS3HW, prompts, strict=True):
        named, reading = parse_indices(prompt), reader(images_S3HW)
        on_prompt_S = shows(reading, named)
        totals["readable"] += reading.readable_B.double().mean().item() / len(prompts)
        totals["alignment"] += on_prompt_S.double().mean().item() / len(prompts)
        totals["coverage"] += coverage(reading, on_prompt_S, named) / len(prompts)
    return totals


def measure_prompts(prompts: list[str], count: int, seed: int) -> dict[str, float]:
    """The metrics of the data: ``count`` renders for each prompt, with the named attributes fixed."""
    images = [
        render(sample_scenes(count, torch.Generator().manual_seed(seed + index), fixed=parse(prompt)))
        for index, prompt in enumerate(prompts)
    ]
    return measure(images, prompts)


def measure_samples(
    pipeline: StableDiffusion3Pipeline, prompts: list[str], count: int, guidance: float, steps: int, seed: int
) -> dict[str, float]:
    """The same metrics for samples of the pipeline."""
    images = [
        sample_images(pipeline, prompt, count, guidance, steps, seed + 1000 * index)
        for index, prompt in enumerate(prompts)
    ]
    return measure(images, prompts)
