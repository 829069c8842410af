"""evaluation.json: what a run's checkpoints and its base model scored, prompt by prompt (docs/evaluation.md).

Written by `python -m drift_pl.evaluate`, one point at a time; read by `python -m drift_pl.pareto`. No torch here.
"""

import json
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from drift_pl.core.errors import UserError
from drift_pl.core.files import write_text
from drift_pl.evaluation.fields import fits, take
from drift_pl.functional.intervals import t_quantile

FORMAT, VERSION = "drift_pl.evaluation", 1
FILE_NAME = "evaluation.json"
LEVEL = 0.95

HEADER = {"method": str, "experiment": str, "seed": int, "config_hash": str, "training": dict, "protocol": dict}
TRAINING = {"iterations": int, "images": int, "optimiser_steps": int, "prompts_digest": str}
PROTOCOL = {
    "prompts": list[str],
    "seeds_per_prompt": int,
    "steps": int,
    "guidance_scale": float,
    "negative_prompt": str,
    "resolution": int | None,
    "precision": str,
    "policy": str,
    "judges": list[str],
    "heldout_judges": list[str],
    "encoder": str,
    "lpips": str,
    "measures": list[str],
    "vendi_order": float,
}
"""What two evaluations must share for their values to be comparable."""


@dataclass(frozen=True)
class Value:
    """A measure's mean over the prompts that have it, and its 95 % t interval; None where there is too little."""

    mean: float | None
    low: float | None
    high: float | None
    prompts: int


@dataclass(frozen=True)
class Point:
    """One set of weights as it was measured.

    Attributes:
        name: unique in a file; pictures are called after it.
        checkpoint: name of the checkpoint's file; None for the base model.
        iteration, images: training done up to here.
        weights: `base`, `average` (the EMA) or `live`.
        lora_scale: factor of the adapter's output.
        importance_power: of annealed importance guidance; None for none.
        values: measure -> mean and interval over prompts.
        per_prompt: measure -> P values in the order of the protocol's prompts; None where a prompt has none.
        picture: grid of images, a path relative to the evaluation file's folder; None if there is none.
        digest: twelve hex digits of the measured weights; None for the base model.
    """

    name: str
    checkpoint: str | None
    iteration: int
    images: int
    weights: str
    lora_scale: float
    importance_power: float | None
    values: dict[str, Value]
    per_prompt: dict[str, list[float | None]]
    picture: str | None
    digest: str | None = None

    def title(self) -> str:
        """A name to be read: `iteration 80, scale 0.5`."""
        if self.weights == "base":
            return "base"
        parts = [f"iteration {self.iteration}", *(["live"] if self.name.endswith("-live") else [])]
        parts += [] if self.lora_scale == 1 else [f"scale {self.lora_scale:g}"]
        parts += [] if self.importance_power is None else [f"power {self.importance_power:g}"]
        return ", ".join(parts)

    def identity(self) -> tuple[Any, ...]:
        """What makes measuring again unnecessary."""
        return self.checkpoint, self.digest, self.iteration, self.weights, self.lora_scale, self.importance_power


@dataclass(frozen=True)
class Evaluation:
    """An evaluation file.

    Attributes:
        path: where it lies.
        method: label that comparisons group runs by.
        experiment, seed, config_hash: of the run.
        training: length of the run and digest of its prompts, see `TRAINING`.
        protocol: how it was measured, see `PROTOCOL`.
        points: the base model first, then by iteration.
    """

    path: Path
    method: str
    experiment: str
    seed: int
    config_hash: str
    training: dict[str, Any]
    protocol: dict[str, Any]
    points: tuple[Point, ...] = ()

    def with_point(self, point: Point) -> "Evaluation":
        """The same with one more point, in its place; it takes that of an earlier point of its name."""
        points = [*(other for other in self.points if other.name != point.name), point]
        return replace(self, points=tuple(sorted(points, key=_place)))


def summarise(values: Sequence[float | None]) -> Value:
    """Mean and t interval over the prompts that have a value; no interval for fewer than two."""
    present = np.array([value for value in values if value is not None], dtype=np.float64)
    count = len(present)
    if count < 2:
        return Value(float(present[0]) if count else None, None, None, count)
    mean = float(present.mean())
    half = t_quantile((1 + LEVEL) / 2, count - 1) * float(present.std(ddof=1)) / count**0.5
    return Value(mean, mean - half, mean + half, count)


def first_difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """In words, the first field in which two protocols differ; None if they are one."""
    for field in PROTOCOL:
        one, other = earlier[field], now[field]
        if one == other:
            continue
        if field != "prompts":
            return f"{field} is {json.dumps(one)} there and {json.dumps(other)} now"
        if len(one) != len(other):
            return f"prompts: {len(one)} there and {len(other)} now"
        number = next(index for index, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
        return f"prompts: the {number + 1}. is {one[number]!r} there and {other[number]!r} now"
    return None


def read_evaluation(path: Path) -> Evaluation:
    """Reads and checks a file.

    Args:
        path: the file, or the run folder that holds it.

    Raises:
        UserError: there is none, it is of another version, or it is damaged; the message says which command makes it.
    """
    path = path / FILE_NAME if path.is_dir() else path
    make = f"python -m drift_pl.evaluate ckpt_path={path.parent}"
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it with {make}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is no JSON file; make it again with {make} fresh=true") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not an evaluation file; make one with {make}")
    version = content.get("version")
    if version != VERSION:
        age = "a newer" if isinstance(version, int) and version > VERSION else "an older"
        raise UserError(
            f"{path} was made by {age} drift_pl (format version {version}, this one has {VERSION}): make it again with "
            f"{make} fresh=true"
        )
    try:
        return from_plain(content, path)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; make it again with {make} fresh=true") from error


def write_evaluation(evaluation: Evaluation) -> None:
    """Writes the file. A list of numbers takes one line.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(to_plain(evaluation), indent=1, allow_nan=False)
    # a raw line break cannot stand in a JSON string, so no prompt is touched
    text = re.sub(r"\[\n([-+.\deEnul,\s]+)\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)
    write_text(evaluation.path, text + "\n")


def to_plain(evaluation: Evaluation) -> dict[str, Any]:
    """What an evaluation's file holds, as JSON has it."""
    content = asdict(evaluation)
    del content["path"]
    return {"format": FORMAT, "version": VERSION, **content}


def _place(point: Point) -> tuple[Any, ...]:
    power = -1.0 if point.importance_power is None else point.importance_power
    return point.weights != "base", point.iteration, point.checkpoint or "", point.weights, point.lora_scale, power


def from_plain(content: dict[str, Any], path: Path) -> Evaluation:
    """The other way round; `path` is where it was read.

    Raises:
        ValueError: something is missing, of another type, or contradicts the rest.
    """
    header = take(content, HEADER, "")
    header["training"] = take(header["training"], TRAINING, "training.")
    header["protocol"] = take(header["protocol"], PROTOCOL, "protocol.")
    entries = content.get("points")
    if not isinstance(entries, list) or not entries:
        raise ValueError("it has no points")
    num_prompts = len(header["protocol"]["prompts"])
    points = tuple(_read_point(entry, num_prompts, f"points.{number}.") for number, entry in enumerate(entries))
    if points[0].weights != "base":
        raise ValueError("its first point is not the base model")
    if len({point.name for point in points}) < len(points):
        raise ValueError("two points have one name")
    return Evaluation(path=path, points=points, **header)


def _read_point(entry: Any, num_prompts: int, where: str) -> Point:
    kinds = typing.get_type_hints(Point)
    plain = take({"digest": None, **entry} if isinstance(entry, dict) else entry, kinds, where)
    plain["values"] = {
        name: Value(**take(value, typing.get_type_hints(Value), f"{where}values.{name}."))
        for name, value in entry["values"].items()
    }
    for name, values in plain["per_prompt"].items():
        if not fits(values, list[float | None]) or len(values) != num_prompts:
            raise ValueError(f"{where}per_prompt.{name} is not a list of {num_prompts} numbers")
    return Point(**plain)
