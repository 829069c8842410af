"""Many evaluations in one compressed file, `*.json.xz`: how a study's results are kept and compared. No torch here.

    {"format": "drift_pl.evaluations", "version": 1, "evaluations": [{"job": {...}, "evaluation": {...}}, ...]}

`evaluation` is the content of an evaluation file, without pictures and to seven digits. `job` is the writer's own
description of how it was made, or null; it is not interpreted here. `xzcat FILE` shows the content.
"""

import json
import lzma
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from drift_pl.core.errors import UserError
from drift_pl.core.files import replacing
from drift_pl.core.json_files import read_json
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.record_file import from_plain, read_evaluation, to_plain

FORMAT, VERSION = "drift_pl.evaluations", 1
SUFFIX = ".json.xz"


def name_of(evaluation: Evaluation) -> str:
    """An evaluation's name in such a file, METHOD-sSEED."""
    return f"{evaluation.method}-s{evaluation.seed}"


def read_evaluations(path: Path) -> list[Evaluation]:
    """Reads a run folder, an evaluation file, or a file of many.

    Args:
        path: `FILE.json.xz#PATTERN` selects by METHOD-sSEED, with `*` and `?` as in a shell.

    Raises:
        UserError: the path cannot be read, or nothing in the file matches.
    """
    file, hash_sign, pattern = str(path).partition(f"{SUFFIX}#")
    if not hash_sign:
        return read_bundle(path) if path.name.endswith(SUFFIX) else [read_evaluation(path)]
    evaluations = {name_of(each): each for each in read_bundle(Path(file + SUFFIX))}
    chosen = [each for name, each in evaluations.items() if name == pattern or fnmatchcase(name, pattern)]
    if not chosen:
        raise UserError(f"{path}: no evaluation in this file matches {pattern!r}: it has {', '.join(evaluations)}")
    return chosen


def read_bundle(path: Path) -> list[Evaluation]:
    """All evaluations of a file, in its order; each one's path is `FILE#METHOD-sSEED`.

    Raises:
        UserError: the file is missing, damaged, or not of this format and version; or it holds an evaluation twice.
    """
    entries = _read(path)
    try:
        evaluations = [from_plain(entry["evaluation"], path) for entry in entries]
        twice = next((name for name, times in Counter(map(name_of, evaluations)).items() if times > 1), None)
        if twice is not None:
            raise ValueError(f"it holds {twice} twice")
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    return [replace(evaluation, path=Path(f"{path}#{name_of(evaluation)}")) for evaluation in evaluations]


def read_jobs(path: Path) -> dict[str, dict[str, Any]]:
    """METHOD-sSEED -> `job`, where a file has one.

    Raises:
        UserError: as in `read_bundle`.
    """
    jobs: dict[str, dict[str, Any] | None] = {}
    for number, entry in enumerate(_read(path)):
        try:
            evaluation, job = entry["evaluation"], entry["job"]
            name = f"{evaluation['method']}-s{int(evaluation['seed'])}"
            if not isinstance(job, dict | None):
                raise TypeError("job holds no keys")
        except (KeyError, TypeError, ValueError) as error:
            reason = f"evaluations.{number} is no evaluation with its job ({error})"
            raise _damaged(path, ValueError(reason)) from error
        if name in jobs:
            raise _damaged(path, ValueError(f"it holds {name} twice"))
        jobs[name] = job
    return {name: job for name, job in jobs.items() if job}


def write_bundle(path: Path, evaluations: Sequence[Evaluation], jobs: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the evaluations in this order, without pictures, to seven digits; the same content gives the same bytes.

    Args:
        path: ends in `.json.xz`.
        jobs: METHOD-sSEED -> how it was made; entries may be missing.
    """
    entries = []
    for evaluation in evaluations:
        points = tuple(replace(point, picture=None) for point in evaluation.points)
        plain = to_plain(replace(evaluation, points=points))
        entries.append({"job": jobs.get(name_of(evaluation)), "evaluation": _rounded(plain)})
    content = {"format": FORMAT, "version": VERSION, "evaluations": entries}
    text = json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_bytes(lzma.compress(text.encode()))


def _rounded(value: Any) -> Any:
    """Seven digits are what float32 has; the others would be half of the file."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a run folder, an evaluation file or a file of many, *{SUFFIX}")
    try:
        content = read_json(path)
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise UserError(f"{path} is not a file of many evaluations ({FORMAT}, version {VERSION}): give a run folder")
    entries = content.get("evaluations")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} holds no evaluation: give another file, or a run folder")
    return entries


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged: {error}; get it again from where it came from")
