"""Many evaluations in one compressed file, `*.json.xz`: a study's results as they are kept and compared. No torch here.

    {"format": "drift_pl.evaluations", "version": 1, "evaluations": [{"job": {...}, "evaluation": {...}}, ...]}

`evaluation` is the content of an evaluation file, without pictures. `job` says how it was made, in the words of whoever
wrote the file, or is null; it is not interpreted here. `xzcat FILE` shows everything.
"""

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from drift_pl.core.errors import UserError
from drift_pl.core.files import replacing
from drift_pl.evaluation.record import Evaluation, from_plain, read_evaluation, to_plain

FORMAT, VERSION = "drift_pl.evaluations", 1
SUFFIX = ".json.xz"


def name_of(evaluation: Evaluation) -> str:
    """What an evaluation is called in a file of many, METHOD-sSEED."""
    return f"{evaluation.method}-s{evaluation.seed}"


def read_evaluations(path: Path) -> list[Evaluation]:
    """Reads what a path names: a run folder, an evaluation file, or a file of many.

    Args:
        path: `FILE.json.xz#PATTERN` takes those of the file whose METHOD-sSEED matches, with `*` and `?` as in a shell.

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
        UserError: there is no such file, or it is not of this format and version.
    """
    evaluations = []
    for entry in _read(path):
        try:
            evaluation = from_plain(entry["evaluation"], path)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged: {error}; get it again from where it came from") from error
        evaluations.append(replace(evaluation, path=Path(f"{path}#{name_of(evaluation)}")))
    return evaluations


def read_jobs(path: Path) -> dict[str, dict[str, Any]]:
    """METHOD-sSEED -> how it was made, of those evaluations of a file that say it; errors as in `read_bundle`."""
    return {f"{e['evaluation']['method']}-s{e['evaluation']['seed']}": e["job"] for e in _read(path) if e["job"]}


def write_bundle(path: Path, evaluations: Sequence[Evaluation], jobs: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes a file that holds the evaluations in this order, without pictures; the same content gives the same bytes.

    Args:
        path: ends in `.json.xz`.
        jobs: METHOD-sSEED -> how it was made; may be missing.
    """
    entries = []
    for evaluation in evaluations:
        points = tuple(replace(point, picture=None) for point in evaluation.points)
        plain = to_plain(replace(evaluation, points=points))
        entries.append({"job": jobs.get(name_of(evaluation)), "evaluation": plain})
    content = {"format": FORMAT, "version": VERSION, "evaluations": entries}
    text = json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_bytes(lzma.compress(text.encode()))


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a run folder, an evaluation file or a file of many, *{SUFFIX}")
    try:
        content = json.loads(lzma.decompress(path.read_bytes()))
    except (ValueError, OSError, EOFError, lzma.LZMAError) as error:
        raise UserError(f"{path} is damaged: {error}; get it again from where it came from") from error
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise UserError(f"{path} is not a file of many evaluations ({FORMAT}, version {VERSION}): give a run folder")
    return content["evaluations"]
