"""The base model's point, taken over from another run's evaluation: it is the same for all runs of one protocol."""

import shutil
from dataclasses import replace
from pathlib import Path

from drift_pl.core.errors import UserError
from drift_pl.evaluation.pictures import pictures_folder
from drift_pl.evaluation.record import Evaluation, first_difference, read_evaluation


def read_base(path: Path, evaluation: Evaluation) -> Evaluation:
    """Another run's evaluation, whose base model was measured as `evaluation` measures.

    Raises:
        UserError: the file cannot be read, or is of another protocol.
    """
    other = read_evaluation(path)
    difference = first_difference(other.protocol, evaluation.protocol)
    if difference:
        raise UserError(f"base={path} was measured otherwise: {difference}; give one of the same protocol, or no base")
    return other


def with_base_of(evaluation: Evaluation, other: Evaluation) -> Evaluation:
    """`evaluation` with the base model's values, picture and arrays of `other`; its own stay if it has them."""
    if any(point.weights == "base" for point in evaluation.points):
        return evaluation
    point, folder = other.points[0], pictures_folder(evaluation.path)
    arrays = pictures_folder(other.path) / f"{point.name}.npz"
    if arrays.is_file():  # for the sheet of all points, and measures of drift
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(arrays, folder / arrays.name)
    if point.picture is None or not (other.path.parent / point.picture).is_file():
        return evaluation.with_point(replace(point, picture=None))
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / Path(point.picture).name
    shutil.copyfile(other.path.parent / point.picture, picture)
    return evaluation.with_point(replace(point, picture=str(picture.relative_to(evaluation.path.parent))))
