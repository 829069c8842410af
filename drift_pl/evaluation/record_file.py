"""The file of a record of a measurement: reading with every check, and writing.

A file may come from another version, another machine or a text editor, so nothing in it is taken on trust. No torch
here.
"""

import json
import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from drift_pl.core.errors import UserError
from drift_pl.core.files import write_text
from drift_pl.core.json_files import read_json
from drift_pl.evaluation.record import EVALUATE, Evaluation, Point, run_dir_of

FORMAT, VERSION = "drift_pl.evaluation", 1
LARGEST = 1e100
"""Numbers of a record are smaller."""


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
    command = f"{EVALUATE}{run_dir_of(path)}"
    if not path.exists() and path.suffix != ".json":
        raise UserError(f"{path}: no such file or folder; give a run folder, e.g. one in runs/, or an evaluation file")
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


def replaced(path: Path, new: Evaluation, out: str | None) -> Evaluation:
    """A record without points that is to replace what is in a file; damaged and older ones are replaced, too.

    Args:
        out: the file as the user gave it; None: the command chose it.

    Raises:
        UserError: the file is no record, or the user gave that of another run or of other prompts.
    """
    other = "give another file, e.g. out=evaluation-2.json"
    try:
        content = read_json(path)
    except ValueError:
        return new
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not an evaluation file, and would be lost: {other}")
    try:
        earlier = read_evaluation(path)
    except UserError:
        return new
    if out is not None and (earlier.config_hash, earlier.seed) != (new.config_hash, new.seed):
        raise UserError(f"{path} is of another run, and would be lost: {other}")
    if out is not None and earlier.protocol["prompts"] != new.protocol["prompts"]:
        raise UserError(f"{path} is of other prompts, and would be lost: {other}")
    return replace(new, known=earlier.known)


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
    prompts = evaluation.protocol["prompts"]
    if not prompts or len(set(prompts)) < len(prompts):  # a repeated one would weigh double, so each is measured once
        twice = next((prompt for prompt, times in Counter(prompts).items() if times > 1), None)
        raise ValueError(f"protocol.prompts holds {'no prompt' if twice is None else f'{twice!r} twice'}")
    for number, point in enumerate(evaluation.points):
        if not point.name or Path(point.name).name != point.name:
            raise ValueError(f"points.{number}.name is not the name of a file: {point.name!r}")
        for name, values in point.per_prompt.items():
            if len(values) != len(prompts):
                raise ValueError(f"points.{number}.per_prompt.{name} is not a list of {len(prompts)} numbers")
        _refuse_unusable(point, f"points.{number}")
    return replace(evaluation, known=evaluation.identities)


def _refuse_unusable(point: Point, place: str) -> None:
    """Checks that means and intervals can be computed from a point that a file holds.

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
