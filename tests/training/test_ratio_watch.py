"""The warning of a rollout whose densities are not the update's."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from drift_pl.training.callbacks.ratio import FIRST, RatioWatch


def end(watch: RatioWatch, metrics: dict[str, float], first_process: bool = True) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=first_process)
    batch = SimpleNamespace(iteration=4)
    watch.on_train_batch_end(trainer, SimpleNamespace(), {"metrics": metrics}, batch, 0)  # type: ignore[arg-type]


def test_a_tenth_of_the_clip_range_is_warned_of_once() -> None:
    """Catches in training/callbacks/ratio.py: bound of the clip range itself; a warning in every iteration."""
    watch = RatioWatch(1e-3)
    with pytest.warns(UserWarning, match=r"iteration 4: policy/ratio_deviation_first is 1\.1e-04.*1e-04"):
        end(watch, {FIRST: 1.1e-4})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        end(watch, {FIRST: 1.0})


@pytest.mark.parametrize("metrics", [{}, {FIRST: 0.0}, {FIRST: 0.99e-4}])
def test_rounding_is_not_warned_of(metrics: dict[str, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        end(RatioWatch(1e-3), metrics)
        end(RatioWatch(1e-3), {FIRST: 1.0}, first_process=False)
