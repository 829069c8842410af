"""What evaluation files hold, as tests compare it."""

from pathlib import Path

import pytest

from drift_pl.evaluation.record import Evaluation


def last(run: Path) -> Path:
    return run / "checkpoints" / "iteration-000004.ckpt"


def means(evaluation: Evaluation, index: int) -> dict[str, float]:
    return {name: value.mean for name, value in evaluation.points[index].values.items()}


def same(first: dict[str, float], second: dict[str, float]) -> bool:
    """Equal values of everything that is measured per prompt (drift is not measured of the base itself)."""
    first, second = ({name: value for name, value in values.items() if name != "fid"} for values in (first, second))
    return first == pytest.approx(second, abs=1e-6)
