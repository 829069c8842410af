"""The base model's point, taken over from another run's evaluation: it is the same for all runs of one protocol."""

from dataclasses import replace
from pathlib import Path

from drift_pl.core.errors import UserError
from drift_pl.core.files import copy_file
from drift_pl.evaluation.protocol import first_difference
from drift_pl.evaluation.record import Evaluation, read_evaluation


def read_base(path: Path, evaluation: Evaluation) -> Evaluation:
    """Another run's evaluation, whose base model was measured as `evaluation` measures.

    Raises:
        UserError: the file cannot be read, is of another protocol, or has no base model.
    """
    other = read_evaluation(path)
    difference = first_difference(other.protocol, evaluation.protocol)
    if difference:
        raise UserError(f"base={path} was measured otherwise: {difference}; give one of the same protocol, or no base")
    if other.base is None:
        raise UserError(f"base={path} does not hold the base model: give the file of a run that does, or no base")
    return other


def with_base_of(evaluation: Evaluation, other: Evaluation) -> Evaluation:
    """`evaluation` with the base model's values, picture and arrays of `other`; its own stay if it has them."""
    point = other.base
    if point is None or evaluation.base is not None:
        return evaluation
    arrays, picture = other.folder / f"{point.name}.npz", other.picture_of(point)
    for source in (arrays, picture):  # for the sheet of all points, and measures of drift
        if source is not None and source.is_file():
            copy_file(source, evaluation.folder / source.name)
    kept = str((evaluation.folder / picture.name).relative_to(evaluation.path.parent)) if picture else None
    return evaluation.with_point(replace(point, picture=kept))
