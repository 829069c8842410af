"""Pictures of one prompt by the base model and by the fine-tuned one, on the same noise: drawn, measured, written."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from drift_pl.core.files import new_folder, write_json
from drift_pl.core.rng import sample_generators
from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.evaluation.grids import labelled_grid, save_image
from drift_pl.evaluation.sampling import Model, SamplingPlan, sample_images
from drift_pl.sampling.rollout import Sampler
from drift_pl.scoring.calls import finite_images, nan_images, refuse_nan_images

LARGEST_TILE = 256
"""Images of more pixels than this are shrunk on the grid."""

Pictures = Mapping[str, Tensor]
"""`base` and `tuned`: images [N, 3, H, W] in [0, 1], on the CPU; row k of both from the same noise."""


MEASURES = {"reward": "reward", "pairwise_distance": "distance"}
"""What is measured of pictures, and what it is called."""


def draw(model: Model, plan: SamplingPlan, prompt: str, n: int, seed: int, micro_batch: int) -> dict[str, Tensor]:
    """Both models' images of a prompt; image k of a seed has the same noise for every prompt, run and method.

    Raises:
        UserError: all images of a model are NaN. A warning says how many are, if some are.
    """
    condition = model.encode([prompt], model.device)

    def images(sampler: Sampler, which: str) -> Tensor:
        generators = sample_generators("generated_latents", seed, samples=range(n))
        images_N3HW = sample_images(model, sampler, condition, generators, micro_batch).float().cpu()
        lost = int((~finite_images(images_N3HW)).sum())
        refuse_nan_images(lost, n, f"the {which} model's pictures")
        if lost:
            warnings.warn(nan_images(lost, n, f"the {which} model's pictures"), stacklevel=1)
        return images_N3HW

    with model.base(plan) as sampler:
        base = images(sampler, "base")
    with model.tuned(plan) as sampler:
        return {"base": base, "tuned": images(sampler, "fine-tuned")}


@torch.no_grad()
def measure(evaluator: Evaluator, pictures: Pictures, prompt: str, device: torch.device) -> dict[str, dict[str, float]]:
    """`reward` and, of two images or more, `distance`, of both models; without those that no judge could score."""
    measured: dict[str, dict[str, float]] = {}
    for which, images_N3HW in pictures.items():
        values = evaluator.measure(images_N3HW.to(device), prompt)
        for name, label in MEASURES.items():
            if name in values and values[name].isfinite():
                measured.setdefault(label, {})[which] = float(values[name])
    return measured


def label(plan: SamplingPlan, iteration: int, weights: str) -> str:
    """What stands above the fine-tuned model's pictures."""
    parts = [f"iteration {iteration}", *(["live"] if weights == "live" else [])]
    parts += [] if plan.lora_scale == 1 else [f"scale {plan.lora_scale:g}"]
    parts += [] if plan.importance_power is None else [f"aig {plan.importance_power:g}"]
    return ", ".join(parts)


def save_pictures(pictures: Pictures, out: Path, title: str, prompt: str, facts: Mapping[str, Any]) -> None:
    """Writes WHICH-NUMBER.png, the grid, and settings.json, all or nothing.

    Raises:
        UserError: `out` is taken or cannot be written.
    """
    digits = max(2, len(str(len(pictures["base"]) - 1)))
    with new_folder(out) as folder:
        for which, images_N3HW in pictures.items():
            pixels_NHW3 = (images_N3HW.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
            for number, pixels_HW3 in enumerate(pixels_NHW3):
                image = Image.fromarray(np.ascontiguousarray(pixels_HW3))
                save_image(image, folder / f"{which}-{number:0{digits}}.png")
        blocks = [_rows(images_N3HW) for images_N3HW in pictures.values()]
        labels = [prompt, *[""] * (len(blocks[0]) - 1)]
        save_image(labelled_grid(["base", title], blocks, labels), folder / "base_and_tuned.png")
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
