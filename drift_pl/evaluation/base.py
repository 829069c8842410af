"""Reuse the base model's point from another run's evaluation with the same protocol."""

from dataclasses import replace
from pathlib import Path

from drift_pl.core.errors import UserError
from drift_pl.core.files import copy_file
from drift_pl.evaluation.protocol import MEASURED_WITH
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.record_file import read_evaluation


def read_base(path: Path, evaluation: Evaluation) -> Evaluation:
    """Another run's evaluation, whose base model was measured with the protocol of `evaluation`.

    Raises:
        UserError: the file cannot be read, has another protocol, or has no base model.
    """
    other = read_evaluation(path)
    difference = other.protocol_difference(evaluation)
    if difference:
        raise UserError(f"base={path} {difference}; give one with the same protocol, or no base")
    for key, digest in other.inputs.items():
        if key.startswith(MEASURED_WITH) and evaluation.inputs.get(key, digest) != digest:
            raise UserError(f"base={path} was measured with other files: {key} had another content; give no base")
    if other.base is None:
        raise UserError(f"base={path} does not hold the base model: give the file of a run that does, or no base")
    return other


def with_base_of(evaluation: Evaluation, other: Evaluation) -> Evaluation:
    """`evaluation` with the base model's values, picture and arrays of `other`; keeps its own if it has them."""
    point = other.base
    if point is None or evaluation.base is not None:
        return evaluation
    picture, copies = other.picture_of(point), evaluation.folder.relative_to(evaluation.path.parent)
    for source in (other.folder / f"{point.name}.npz", picture):  # for the sheet of all points, and measures of drift
        if source is not None and source.is_file():
            copy_file(source, evaluation.folder / source.name)
    return evaluation.with_point(replace(point, picture=str(copies / picture.name) if picture else None))
