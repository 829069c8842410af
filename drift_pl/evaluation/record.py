"""The record of a measurement: values of a run's checkpoints and of its base model, prompt by prompt.

`fit` and `python -m drift_pl.evaluate` write it, one point at a time; `pareto`, `report` and model cards read it
(docs/evaluation.md). No torch here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from drift_pl.evaluation.protocol import Protocol, Training, first_difference
from drift_pl.functional.intervals import t_quantile

EVALUATE = "python -m drift_pl.evaluate ckpt_path="
LEVEL = 0.95
TUNED = "tuned"
"""Name of the point that a finished `fit` measures last."""


@dataclass(frozen=True)
class Value:
    """A measure's mean over the prompts that have it, and its 95 % t interval; None where undefined."""

    mean: float | None
    low: float | None
    high: float | None
    prompts: int


@dataclass(frozen=True)
class Point:
    """The measurement of one set of weights; docs/evaluation.md explains the fields.

    `per_prompt` has P values per measure, in the order of the protocol's prompts. `name` also names the files of the
    point's arrays and, from `evaluate`, of its picture, whose path is relative to the evaluation file's folder.
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

    @property
    def key(self) -> tuple[int, str, float, float | None]:
        """Distinguishes the points of one run, and matches points of different seeds."""
        return self.iteration, self.weights, self.lora_scale, self.importance_power

    def identity(self) -> tuple[Any, ...]:
        """A point with the same identity need not be measured again; a checkpoint may be renamed."""
        return self.digest, *self.key

    def finality(self) -> tuple[int, bool, bool]:
        """The greatest is the final point: the longest trained one, without guidance and unscaled if possible."""
        return self.iteration, self.importance_power is None, self.lora_scale == 1

    def title(self, with_weights: bool = False) -> str:
        """E.g. `iteration 80, LoRA scale 0.5`, and `live weights` on request."""
        if self.weights == "base":
            return "base"
        parts = [f"iteration {self.iteration}"]
        parts += [] if self.lora_scale == 1 else [f"LoRA scale {self.lora_scale:g}"]
        parts += [] if self.importance_power is None else [f"importance power {self.importance_power:g}"]
        return ", ".join([*parts, f"{self.weights} weights"] if with_weights else parts)


def titles(points: Sequence[Point]) -> list[str]:
    """A title per point, with the kind of weights where two would be equal without it."""
    short = [point.title() for point in points]
    return [point.title(with_weights=short.count(text) > 1) for point, text in zip(points, short, strict=True)]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation file, which lies at `path`; docs/evaluation.md explains the other fields.

    `known` is not in the file: identities of the points that it held when it was last read or written.
    """

    path: Path
    method: str
    experiment: str
    seed: int
    config_hash: str
    training: Training
    protocol: Protocol
    points: tuple[Point, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    known: frozenset[tuple[Any, ...]] = field(default=frozenset(), compare=False)

    @property
    def run_dir(self) -> Path:
        return run_dir_of(self.path)

    @property
    def folder(self) -> Path:
        """Pictures and arrays of the points."""
        return self.path.with_suffix("") / "points"

    def picture_of(self, point: Point) -> Path | None:
        """A point's picture, if it is a PNG file of this run: a record may come from elsewhere and name anything."""
        path = self.path.parent / (point.picture or "")
        target = path.resolve()
        own = target.suffix == ".png" and target.is_file() and target.is_relative_to(self.run_dir.resolve())
        return path if own else None

    @property
    def identities(self) -> frozenset[tuple[Any, ...]]:
        return frozenset(point.identity() for point in self.points)

    @property
    def base(self) -> Point | None:
        """The base model's point."""
        return next((point for point in self.points if point.weights == "base"), None)

    @property
    def tuned(self) -> Point:
        """The finished run's point, or else the final one of those that were measured."""
        return max(self.points, key=lambda point: (point.name == TUNED, point.finality()))

    def with_point(self, point: Point) -> "Evaluation":
        """The same with one more point, in order; replaces one with its name or its weights."""
        others = (one for one in self.points if one.name != point.name and one.identity() != point.identity())
        return replace(self, points=tuple(sorted([*others, point], key=_order)))

    def difference(self, now: "Evaluation") -> str | None:
        """Why values of the two may not be in one file; None if they may."""
        run, other = (f"{one.config_hash}-s{one.seed}" for one in (self, now))
        if run != other:
            return f"is of the run {run}, and this one is {other}"
        changed = [name for name in self.inputs if now.inputs.get(name, self.inputs[name]) != self.inputs[name]]
        if changed:
            return f"is of a run with other files: {', '.join(changed)} had another content there"
        if self.training["prompts_digest"] != now.training["prompts_digest"]:
            return "is of a run that was trained on another list, prompts.train"
        return self.protocol_difference(now)

    def protocol_difference(self, now: "Evaluation") -> str | None:
        """The first difference between the protocols; None if they are equal."""
        difference = first_difference(self.protocol, now.protocol)
        if difference is None:
            return None
        there, here = (json.dumps(value, ensure_ascii=False) for value in difference[1:])
        return f"was measured differently: {difference[0]} is {there} there and {here} now"


def half_width(values_N: np.ndarray) -> float:
    """Half the width of the 95 % t interval of the mean of at least two values."""
    count = len(values_N)
    return t_quantile((1 + LEVEL) / 2, count - 1) * float(values_N.std(ddof=1)) / count**0.5


def summarise(values: Sequence[float | None]) -> Value:
    """Mean and t interval over the prompts that have a value; no interval for fewer than two."""
    present = np.array([value for value in values if value is not None], dtype=np.float64)
    count = len(present)
    if count < 2:
        return Value(float(present[0]) if count else None, None, None, count)
    mean, half = float(present.mean()), half_width(present)
    return Value(mean, mean - half, mean + half, count)


def _order(point: Point) -> tuple[Any, ...]:
    power = -1.0 if point.importance_power is None else point.importance_power
    return point.weights != "base", point.iteration, point.checkpoint or "", point.weights, point.lora_scale, power


def run_dir_of(path: Path) -> Path:
    """A file lies in its run's folder, or in `evaluation/` in it."""
    return path.parents[1 if path.parent.name == "evaluation" else 0]
