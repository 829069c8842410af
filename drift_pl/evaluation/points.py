"""From measured values to a point of a record: values in the file, a picture, and arrays for later points."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drift_pl.core.files import finite, replacing
from drift_pl.evaluation.arrays import read_npz
from drift_pl.evaluation.evaluated import Evaluated
from drift_pl.evaluation.grids import labelled_grid, save_image
from drift_pl.evaluation.record import EVALUATE, TUNED, Evaluation, Point, Value, summarise
from drift_pl.evaluation.sampling import SamplingPlan
from drift_pl.evaluation.shared import write_shared
from drift_pl.scoring.pixels import to_bytes

BASE = Point("base", None, 0, 0, "base", 1.0, None, {}, {}, None)


def trained_point(
    checkpoint: str, digest: str, iteration: int, images: int, weights: str, plan: SamplingPlan, live: bool = False
) -> Point:
    """A point without values, see `Point`; its name is e.g. `iteration-000080-scale0.5`.

    Args:
        live: whether the live weights of a run with an average were requested.
    """
    scale, power = plan.lora_scale, plan.importance_power
    stem = Path(checkpoint).stem
    name = f"checkpoint-{stem}" if stem in (BASE.name, TUNED) else stem
    name += "" if scale == 1 else f"-scale{_exactly(scale)}"
    name += ("" if power is None else f"-power{_exactly(power)}") + ("-live" if live else "")
    return Point(name, checkpoint, iteration, images, weights, scale, power, {}, {}, None, digest)


def _exactly(value: float) -> str:
    """The shortest text that tells a number from all others."""
    return short if float(short := f"{value:g}") == value else repr(value)


def keep(
    evaluation: Evaluation, point: Point, evaluated: Evaluated, picture: Path | None = None, arrays: bool = True
) -> Evaluation:
    """The record with one more point, after writing its picture, its arrays and the record's file.

    Args:
        picture: file of the grid; None: beside the arrays.
        arrays: whether images of the grid, and embeddings if there are any, are kept for later points.
    """
    picture = picture or evaluation.folder / f"{point.name}.png"
    save_image(grid_of(evaluated, point.title()), picture)
    if arrays:
        kept = {"grid": to_bytes(evaluated.grid_PS3HW)}
        if evaluated.embedding_PSD is not None:
            kept["embedding"] = evaluated.embedding_PSD
        with replacing(_arrays(evaluation, point.name)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **{name: array.numpy() for name, array in kept.items()})
    point = replace(_with_values(point, evaluated), picture=os.path.relpath(picture, evaluation.path.parent))
    return write_shared(evaluation.with_point(point))


def _with_values(point: Point, evaluated: Evaluated) -> Point:
    """The point with its values; None stands for those that are not finite."""
    per_prompt = {name: finite(value_P.tolist()) for name, value_P in evaluated.values.items()}
    values = {name: summarise(numbers) for name, numbers in per_prompt.items()}
    for name, value in evaluated.overall.items():  # over all prompts together, so without an interval
        values[name] = Value(finite(value), None, None, len(evaluated.prompts))
    return replace(point, values=values, per_prompt=per_prompt)


def means(point: Point) -> dict[str, float]:
    """`Evaluated.means` of what a point keeps, bit for bit; NaN where there is no value."""
    # Not `Value.mean`: numpy adds in another order than torch, and summary.json holds torch's.
    table_PN = torch.tensor(np.array(list(zip(*point.per_prompt.values(), strict=True)), np.float64))  # None: NaN
    per_prompt = {name: float(value_P.nanmean()) for name, value_P in zip(point.per_prompt, table_PN.T, strict=True)}
    overall = {name: value.mean for name, value in point.values.items() if name not in per_prompt}
    return per_prompt | {name: math.nan if mean is None else mean for name, mean in overall.items()}


def grid_of(evaluated: Evaluated, title: str) -> Image.Image:
    """The picture of a point."""
    grid_PS3HW = evaluated.grid_PS3HW
    return labelled_grid([title], [grid_PS3HW], evaluated.prompts[: len(grid_PS3HW)])


def read_array(evaluation: Evaluation, name: str, array: str) -> Tensor | None:
    """`grid` (uint8 [P, S, 3, H, W]) or `embedding` (float32 [P, S, D]) of a point; None if it was not kept."""
    path = _arrays(evaluation, name)
    if not path.is_file():
        return None
    found = read_npz(path, array, f"measure its points again, {EVALUATE}{evaluation.run_dir} fresh=true")
    return None if found is None else torch.from_numpy(found)


def _arrays(evaluation: Evaluation, name: str) -> Path:
    return evaluation.folder / f"{name}.npz"
