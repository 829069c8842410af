"""Images of one prompt from the base model and the fine-tuned one, on the same noise."""

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from drift_pl.core.files import new_folder, write_json
from drift_pl.core.rng import sample_generators
from drift_pl.evaluation.evaluator import Evaluator
from drift_pl.evaluation.grids import labelled_grid, save_image, shrink
from drift_pl.evaluation.sampling import Model, SamplingPlan, sample_images
from drift_pl.scoring.calls import finite_images, nan_images, refuse_nan_images
from drift_pl.scoring.frames import SHOWN, few_frames
from drift_pl.scoring.pixels import to_bytes

LARGEST_TILE = 256
"""Larger images are shrunk on the grid."""

Pictures = Mapping[str, Tensor]
"""`base` and `tuned`: images [N, 3, H, W] in [0, 1], on the CPU; row k of both from the same noise."""

MEASURES = {"reward": "reward", "pairwise_distance": "distance"}
"""Measures of pictures and their labels."""


def draw(
    model: Model,
    plan: SamplingPlan,
    prompt: str,
    n: int,
    seed: int,
    micro_batch: int,
    sampled: Callable[[int], object] = lambda images: None,
) -> dict[str, Tensor]:
    """Both models' `Pictures` of a prompt; image k of a seed has the same noise for every prompt, run and method.

    Args:
        n: images of each model.
        sampled: see `sample_images`.

    Raises:
        UserError: all images of a model are NaN. A warning says how many are, if some are.
    """
    condition = model.encode([prompt], model.device)
    pictures = {}
    for which in ("base", "tuned"):
        generators = sample_generators("generated_latents", seed, samples=range(n))
        with model.sampler(plan, base=which == "base") as sampler:
            images_N3HW = sample_images(model, sampler, condition, generators, micro_batch, sampled)
        pictures[which] = images_N3HW.float().cpu()
        lost = int((~finite_images(pictures[which])).sum())
        refuse_nan_images(lost, n, f"the {which} model's pictures")
        if lost:
            warnings.warn(nan_images(lost, n, f"the {which} model's pictures"), stacklevel=1)
    return pictures


@torch.no_grad()
def measure(evaluator: Evaluator, pictures: Pictures, prompt: str, device: torch.device) -> dict[str, dict[str, float]]:
    """`reward` and, of at least two images, `distance` of both models; omits values that are not finite."""
    measured: dict[str, dict[str, float]] = {}
    for which, images_N3HW in pictures.items():
        values = evaluator.measure(images_N3HW.to(device), prompt)
        for name, label in MEASURES.items():
            if name in values and values[name].isfinite():
                measured.setdefault(label, {})[which] = float(values[name])
    return measured


def save_pictures(
    pictures: Pictures, out: Path, title: str, prompt: str, facts: Mapping[str, Any], frames: int = 1
) -> None:
    """Writes WHICH-NUMBER.png, the grid, and settings.json, all or nothing.

    Args:
        title: of the fine-tuned model's block.
        frames: of a video, whose files have all side by side; the grid has a few of them.

    Raises:
        UserError: `out` is not empty or cannot be written.
    """
    digits = max(2, len(str(len(pictures["base"]) - 1)))
    with new_folder(out) as folder:
        for which, images_N3HW in pictures.items():
            for number, pixels_HW3 in enumerate(to_bytes(images_N3HW).permute(0, 2, 3, 1).contiguous().numpy()):
                save_image(Image.fromarray(pixels_HW3), folder / f"{which}-{number:0{digits}}.png")
        blocks = [_rows(few_frames(images_N3HW, frames), frames) for images_N3HW in pictures.values()]
        labels = [prompt, *[""] * (len(blocks[0]) - 1)]
        save_image(labelled_grid(["base", title], blocks, labels), folder / "base_and_tuned.png")
        write_json(folder / "settings.json", facts, indent=1)


def _rows(images_N3HW: Tensor, frames: int) -> Tensor:
    """An approximately square block, [R, S, 3, H, W], padded with white images."""
    images_N3HW = shrink(images_N3HW, LARGEST_TILE * min(frames, SHOWN))
    columns = math.ceil(math.sqrt(len(images_N3HW)))
    white = torch.ones(-len(images_N3HW) % columns, *images_N3HW.shape[1:])
    return torch.cat([images_N3HW, white]).unflatten(0, (-1, columns))
