"""An evaluation file to which several processes add points: two `evaluate`s, or one beside a `fit`."""

from dataclasses import replace

from drift_pl.core.errors import UserError
from drift_pl.core.mutex import alone_in
from drift_pl.evaluation.record import Evaluation, Point
from drift_pl.evaluation.record_file import read_evaluation, write_evaluation


def write_shared(evaluation: Evaluation) -> Evaluation:
    """Writes the file, with the points that others have added since it was last read or written; returns it whole."""
    evaluation.path.parent.mkdir(parents=True, exist_ok=True)
    with alone_in(evaluation.path.parent):
        for point in _there(evaluation):
            taken = point.identity() in evaluation.known | evaluation.identities
            if not taken and all(point.name != own.name for own in evaluation.points):
                evaluation = evaluation.with_point(point)
        evaluation = replace(evaluation, known=evaluation.known | evaluation.identities)
        write_evaluation(evaluation)
    return evaluation


def _there(evaluation: Evaluation) -> tuple[Point, ...]:
    """Points of the file as it is now, if they may stand beside the others."""
    try:
        there = read_evaluation(evaluation.path)
    except UserError:  # none, or damaged: it is replaced
        return ()
    return () if there.difference(evaluation) else there.points
