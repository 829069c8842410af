"""The record of a measurement: what a run's checkpoints and its base model scored, prompt by prompt.

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
from drift_pl.evaluation.protocol import Protocol, Training, first_difference
from drift_pl.functional.intervals import t_quantile

FORMAT, VERSION = "drift_pl.evaluation", 1
LEVEL = 0.95
TUNED = "tuned"
"""Name of the point that a finished `fit` measures last."""


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
        name: unique in a file; arrays, and pictures of `evaluate`, are called after it.
        checkpoint: name of the checkpoint's file, whether it was kept or not; None for the base model.
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
        """What makes measuring again unnecessary; a checkpoint may be renamed."""
        return self.digest, self.iteration, self.weights, self.lora_scale, self.importance_power


@dataclass(frozen=True)
class Evaluation:
    """An evaluation file.

    Attributes:
        path: where it lies.
        method: label that comparisons group runs by.
        experiment, seed, config_hash: of the run.
        training: length of the run and digest of its prompts.
        protocol: how it was measured.
        points: the base model first, then by iteration. Looks at the tuning prompts may lack the base model.
        inputs: setting -> digest of the local file or folder that it names; empty in records of version 0.2.
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

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return _run_dir(self.path)

    @property
    def folder(self) -> Path:
        """Where pictures and arrays of the points are."""
        return self.path.with_suffix("") / "points"

    @property
    def base(self) -> Point | None:
        """The base model's point."""
        return next((point for point in self.points if point.weights == "base"), None)

    @property
    def tuned(self) -> Point:
        """The finished run's point; without one the longest trained, unscaled and unguided if there is such a one."""
        return max(
            self.points, key=lambda p: (p.name == TUNED, p.iteration, p.importance_power is None, p.lora_scale == 1)
        )

    def with_point(self, point: Point) -> "Evaluation":
        """The same with one more point, in its place; it takes that of an earlier one of its name or its weights."""
        others = (one for one in self.points if one.name != point.name and one.identity() != point.identity())
        return replace(self, points=tuple(sorted([*others, point], key=_place)))

    def difference(self, now: "Evaluation") -> str | None:
        """In words, why values of the two may not stand in one file; None if they may."""
        run, other = (f"{one.config_hash}-s{one.seed}" for one in (self, now))
        if run != other:
            return f"is of the run {run}, and this one is {other}"
        changed = [name for name in self.inputs if now.inputs.get(name, self.inputs[name]) != self.inputs[name]]
        if changed:
            return f"is of a run with other files: {', '.join(changed)} had another content there"
        if self.training["prompts_digest"] != now.training["prompts_digest"]:
            return "is of a run that was trained on other prompts: prompts.train is another list there"
        measured = first_difference(self.protocol, now.protocol)
        return f"was measured otherwise: {measured}" if measured else None


def summarise(values: Sequence[float | None]) -> Value:
    """Mean and t interval over the prompts that have a value; no interval for fewer than two."""
    present = np.array([value for value in values if value is not None], dtype=np.float64)
    count = len(present)
    if count < 2:
        return Value(float(present[0]) if count else None, None, None, count)
    mean = float(present.mean())
    half = t_quantile((1 + LEVEL) / 2, count - 1) * float(present.std(ddof=1)) / count**0.5
    return Value(mean, mean - half, mean + half, count)


def default_file(run_dir: Path) -> Path:
    """A run's evaluation on its test prompts; in folders of version 0.1 it lies above the others."""
    file, old = run_dir / "evaluation" / "test.json", run_dir / "evaluation.json"
    return old if old.is_file() and not file.is_file() else file


def read_evaluation(path: Path) -> Evaluation:
    """Reads and checks a file; of a run folder its `default_file`.

    Raises:
        UserError: there is none, it is of another version, or it is damaged; the message says which command makes it.
    """
    path = default_file(path) if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it with {_command(path)}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is no JSON file; make it again with {_command(path)} fresh=true") from error
    return from_dict(content, path)


def from_dict(content: Any, path: Path) -> Evaluation:
    """An evaluation that lies at `path`, from plain dicts and lists; keys that it does not know are left out.

    Raises:
        UserError: it is something else, of another version, or damaged.
    """
    make = _command(path)
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


def from_plain(content: dict[str, Any], path: Path) -> Evaluation:
    """The evaluation of plain dicts and lists; `path` is where they were read.

    Raises:
        ValueError: a field is missing, has the wrong type, or contradicts others.
    """
    try:
        # as JSON, in which strict reading still takes a list for a tuple and a dict for a dataclass
        evaluation = _READER.validate_json(json.dumps({**content, "path": str(path)}), strict=True)
    except ValidationError as error:
        place, message = error.errors()[0]["loc"], error.errors()[0]["msg"]
        raise ValueError(f"{'.'.join(map(str, place))}: {message[0].lower()}{message[1:]}") from error
    _check(evaluation)
    return evaluation


def to_plain(evaluation: Evaluation) -> dict[str, Any]:
    """Plain dicts and lists, as `from_plain` takes them."""
    content = {name: value for name, value in asdict(evaluation).items() if name != "path"}
    if not evaluation.inputs:
        del content["inputs"]
    return {"format": FORMAT, "version": VERSION, **content, "points": list(content["points"])}


def write_evaluation(evaluation: Evaluation) -> None:
    """Writes the file. A list of numbers takes one line.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(to_plain(evaluation), indent=1, allow_nan=False)
    # a raw line break cannot stand in a JSON string, so no prompt is touched
    text = re.sub(r"\[\n([-+.\deEnul,\s]+)\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)
    write_text(evaluation.path, text + "\n")


_READER = TypeAdapter(Evaluation)


def _place(point: Point) -> tuple[Any, ...]:
    power = -1.0 if point.importance_power is None else point.importance_power
    return point.weights != "base", point.iteration, point.checkpoint or "", point.weights, point.lora_scale, power


def _run_dir(path: Path) -> Path:
    """A file lies in its run's folder, or in `evaluation/` in it."""
    return path.parents[1 if path.parent.name == "evaluation" else 0]


def _command(path: Path) -> str:
    return f"python -m drift_pl.evaluate ckpt_path={_run_dir(path)}"


def _check(evaluation: Evaluation) -> None:
    """What no type says: there are points, their names differ, and each list has a value per prompt."""
    names = [point.name for point in evaluation.points]
    if not names or len(set(names)) < len(names):
        raise ValueError("two points have one name" if names else "it has no points")
    num_prompts = len(evaluation.protocol["prompts"])
    for number, point in enumerate(evaluation.points):
        for name, values in point.per_prompt.items():
            if len(values) != num_prompts:
                raise ValueError(f"points.{number}.per_prompt.{name} is not a list of {num_prompts} numbers")
