"""Pictures of one prompt by the base model and by the fine-tuned one, on the same noise: drawn, measured, written."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from drift_pl.core.files import new_folder, write_json
from drift_pl.core.rng import normal_per_sample, sample_generators
from drift_pl.evaluation.grids import labelled_grid, save_image
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.rollout import Sampler, sample_ode

LARGEST_TILE = 256
"""Images of more pixels than this are shrunk on the grid."""

Pictures = Mapping[str, Tensor]
"""`base` and `tuned`: images [N, 3, H, W] in [0, 1], on the CPU; row k of both from the same noise."""


@dataclass(frozen=True)
class DrawingPlan:
    """What is drawn, and how; see `Sampler`."""

    prompt: str
    n: int
    seed: int
    steps: int
    guidance_scale: float
    negative_prompt: str
    importance_power: float | None
    lora_scale: float
    resolution: int | None
    micro_batch: int

    def label(self, iteration: int, weights: str) -> str:
        """What stands above the fine-tuned model's pictures."""
        parts = [f"iteration {iteration}", *(["live"] if weights == "live" else [])]
        parts += [] if self.lora_scale == 1 else [f"scale {self.lora_scale:g}"]
        parts += [] if self.importance_power is None else [f"aig {self.importance_power:g}"]
        return ", ".join(parts)


def draw(
    policy: Policy, plan: DrawingPlan, device: torch.device, autocast: Callable[[], AbstractContextManager[Any]]
) -> dict[str, Tensor]:
    """Both models' images of the plan's prompt, by the deterministic sampler."""
    policy.network.to(device)
    policy.to(device)
    condition = policy.encode([plan.prompt]).to(device)
    negative = policy.encode([plan.negative_prompt], negative=True).to(device)
    with autocast(), policy.at_resolution(plan.resolution):
        sigmas = policy.sigmas(plan.steps)
        generators = sample_generators("generated_latents", plan.seed, samples=range(plan.n))
        noise_NCHW = normal_per_sample(generators, policy.latent_shape, device)

        def images(sampler: Sampler) -> Tensor:
            parts = []
            for noise_BCHW in noise_NCHW.split(plan.micro_batch):
                repeated = VariedCondition(condition.repeat_interleave(len(noise_BCHW)))
                parts.append(policy.decode(sample_ode(policy, sampler, noise_BCHW, repeated)))
            return torch.cat(parts).float().cpu()

        with policy.reference():
            base = images(Sampler(sigmas, plan.guidance_scale, negative))
        with policy.adapter_scale(plan.lora_scale):
            tuned = images(Sampler(sigmas, plan.guidance_scale, negative, importance_power=plan.importance_power))
    return {"base": base, "tuned": tuned}


def save_pictures(pictures: Pictures, out: Path, label: str, plan: DrawingPlan, facts: Mapping[str, Any]) -> None:
    """Writes WHICH-NUMBER.png, the grid, and settings.json, all or nothing.

    Raises:
        UserError: `out` is taken or cannot be written.
    """
    digits = max(2, len(str(plan.n - 1)))
    with new_folder(out) as folder:
        for which, images_N3HW in pictures.items():
            pixels_NHW3 = (images_N3HW.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
            for number, pixels_HW3 in enumerate(pixels_NHW3):
                image = Image.fromarray(np.ascontiguousarray(pixels_HW3))
                save_image(image, folder / f"{which}-{number:0{digits}}.png")
        blocks = [_rows(images_N3HW) for images_N3HW in pictures.values()]
        labels = [plan.prompt, *[""] * (len(blocks[0]) - 1)]
        save_image(labelled_grid(["base", label], blocks, labels), folder / "base_and_tuned.png")
        write_json(folder / "settings.json", facts, indent=1)


def _rows(images_N3HW: Tensor) -> Tensor:
    """A block about as wide as it is high, [R, S, 3, H, W], filled up with white."""
    side = max(images_N3HW.shape[-2:])
    if side > LARGEST_TILE:
        size = [round(length * LARGEST_TILE / side) for length in images_N3HW.shape[-2:]]
        images_N3HW = interpolate(images_N3HW, size, mode="bilinear", antialias=True)
    columns = math.ceil(math.sqrt(len(images_N3HW)))
    missing = -len(images_N3HW) % columns
    white = torch.ones(missing, *images_N3HW.shape[1:])
    return torch.cat([images_N3HW, white]).unflatten(0, (-1, columns))
