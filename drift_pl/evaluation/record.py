"""The record of a measurement: values of a run's checkpoints and of its base model, prompt by prompt.

`fit` and `python -m drift_pl.evaluate` write it, one point at a time; `pareto`, `report` and model cards read it
(docs/evaluation.md). No torch here.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from drift_pl.core.errors import UserError
from drift_pl.core.files import write_text
from drift_pl.core.json_files import read_json
from drift_pl.evaluation.protocol import Protocol, Training, first_difference
from drift_pl.functional.intervals import t_quantile

FORMAT, VERSION = "drift_pl.evaluation", 1
EVALUATE = "python -m drift_pl.evaluate ckpt_path="
LEVEL = 0.95
LARGEST = 1e100
"""Numbers of a record are smaller."""
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
        return _run_dir(self.path)

    @property
    def folder(self) -> Path:
        """Pictures and arrays of the points."""
        return self.path.with_suffix("") / "points"

    def picture_of(self, point: Point) -> Path | None:
        """A point's picture, if it is a PNG file of this run: a record may come from elsewhere and name anything."""
        path = (self.path.parent / (point.picture or "")).resolve()
        own = path.suffix == ".png" and path.is_file() and path.is_relative_to(self.run_dir.resolve())
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


def default_file(run_dir: Path) -> Path:
    """A run's evaluation on its test prompts; version 0.1 wrote it to the run folder itself."""
    file, old = run_dir / "evaluation" / "test.json", run_dir / "evaluation.json"
    return old if old.is_file() and not file.is_file() else file


def read_evaluation(path: Path) -> Evaluation:
    """Reads and checks a file, or the `default_file` of a run folder.

    Raises:
        UserError: the file is missing, damaged or of another version; the message names the command that makes it.
    """
    path = default_file(path) if path.is_dir() else path
    command = f"{EVALUATE}{_run_dir(path)}"
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it with {command}")
    try:
        content = read_json(path)
    except ValueError as error:
        raise UserError(f"{path} is not a JSON file ({error}); make it again with {command} fresh=true") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not an evaluation file; make one with {command}")
    version = content.get("version")
    if version != VERSION:
        age = "a newer" if isinstance(version, int) and version > VERSION else "an older"
        raise UserError(
            f"{path} was made by {age} drift_pl (format version {version}, this one has {VERSION}): make it again with "
            f"{command} fresh=true"
        )
    try:
        return from_plain(content, path)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; make it again with {command} fresh=true") from error


def from_plain(content: dict[str, Any], path: Path) -> Evaluation:
    """The evaluation in plain dicts and lists, read from `path`; unknown keys are ignored.

    Raises:
        ValueError: a field is missing, has the wrong type, or contradicts others.
    """
    try:
        # as JSON, in which strict reading still takes a list for a tuple and a dict for a dataclass
        evaluation = _READER.validate_json(json.dumps({**content, "path": str(path), "known": []}), strict=True)
    except ValidationError as error:
        place, message = error.errors()[0]["loc"], error.errors()[0]["msg"]
        raise ValueError(f"{'.'.join(map(str, place))}: {message[0].lower()}{message[1:]}") from error
    names = [point.name for point in evaluation.points]
    if not names or len(set(names)) < len(names):
        raise ValueError("two points have one name" if names else "it has no points")
    num_prompts = len(evaluation.protocol["prompts"])
    for number, point in enumerate(evaluation.points):
        if not point.name or Path(point.name).name != point.name:
            raise ValueError(f"points.{number}.name is not the name of a file: {point.name!r}")
        for name, values in point.per_prompt.items():
            if len(values) != num_prompts:
                raise ValueError(f"points.{number}.per_prompt.{name} is not a list of {num_prompts} numbers")
        _refuse_unusable(point, f"points.{number}")
    return replace(evaluation, known=evaluation.identities)


def _refuse_unusable(point: Point, place: str) -> None:
    """
    Raises:
        ValueError: a number of the point cannot be computed with.
    """
    for name, values in point.per_prompt.items():
        if not all(map(_is_usable, values)):
            raise ValueError(f"{place}.per_prompt.{name} is not finite")
    for name, value in point.values.items():
        if not all(map(_is_usable, (value.mean, value.low, value.high))):
            raise ValueError(f"{place}.values.{name} is not finite")
    if not (_is_usable(point.lora_scale) and _is_usable(point.importance_power)):
        raise ValueError(f"{place}.lora_scale or importance_power is not finite")
    if not (0 <= point.iteration < 2**53 and 0 <= point.images < 2**53):
        raise ValueError(f"{place}.iteration or images is not a count")


def _is_usable(value: float | None) -> bool:
    """Whether squares of a number, and sums of them, are finite."""
    return value is None or abs(value) < LARGEST


def to_plain(evaluation: Evaluation) -> dict[str, Any]:
    """The inverse of `from_plain`."""
    content = {name: value for name, value in asdict(evaluation).items() if name not in ("path", "known")}
    if not evaluation.inputs:  # of version 0.2
        del content["inputs"]
    return {"format": FORMAT, "version": VERSION, **content, "points": list(content["points"])}


def write_evaluation(evaluation: Evaluation) -> None:
    """Writes the file, a list of numbers on one line.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(to_plain(evaluation), indent=1, allow_nan=False)
    # JSON strings have no raw line breaks, so this never matches inside a prompt
    text = re.sub(r"\[\n([-+.\deEnul,\s]+)\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)
    write_text(evaluation.path, text + "\n")


_READER = TypeAdapter(Evaluation)


def _order(point: Point) -> tuple[Any, ...]:
    power = -1.0 if point.importance_power is None else point.importance_power
    return point.weights != "base", point.iteration, point.checkpoint or "", point.weights, point.lora_scale, power


def _run_dir(path: Path) -> Path:
    """A file lies in its run's folder, or in `evaluation/` in it."""
    return path.parents[1 if path.parent.name == "evaluation" else 0]
