"""The warning of a rollout whose densities are not the update's."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from drift_pl.config.loading import parse
from drift_pl.config.updates import step_limit
from drift_pl.training.callbacks.ratio import RatioWatch

FIRST, KL_FIRST = "policy/ratio_deviation_first", "policy/kl_old_first"


def end(watch: RatioWatch, metrics: dict[str, float], first_process: bool = True) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=first_process)
    batch = SimpleNamespace(iteration=4)
    watch.on_train_batch_end(trainer, SimpleNamespace(), {"metrics": metrics}, batch, 0)  # type: ignore[arg-type]


def test_a_tenth_of_the_clip_range_is_warned_of_once() -> None:
    """Catches in training/callbacks/ratio.py: bound of the clip range itself; a warning in every iteration."""
    watch = RatioWatch(FIRST, 1e-3, "objective.clip_range")
    with pytest.warns(UserWarning, match=r"iteration 4: policy/ratio_deviation_first is 1\.1e-04.*1e-04"):
        end(watch, {FIRST: 1.1e-4})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        end(watch, {FIRST: 1.0})


def test_a_mask_by_divergence_is_watched_by_its_own_measure() -> None:
    """Catches in training/callbacks/ratio.py: the ratio, which the mask does not look at.

    Catches in config/updates.py: the clip range under flow_dppo.
    """
    config = parse(["experiment=shapes_flowgrpo", "objective.loss=flow_dppo", "objective.kl_limit=1e-6"]).config
    watch = RatioWatch(*step_limit(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        end(watch, {FIRST: 1.0, KL_FIRST: 0.99e-7})
    with pytest.warns(UserWarning, match=r"policy/kl_old_first is 1\.1e-07.*1e-07 \(a tenth of objective\.kl_limit\)"):
        end(watch, {FIRST: 0.0, KL_FIRST: 1.1e-7})
    plain = RatioWatch(*step_limit(parse(["experiment=shapes_flowgrpo", "objective.clip_range=1e-3"]).config))
    with pytest.warns(UserWarning, match=r"ratio_deviation_first is 1\.1e-04.*a tenth of objective\.clip_range"):
        end(plain, {FIRST: 1.1e-4, KL_FIRST: 0.0})


@pytest.mark.parametrize("metrics", [{}, {FIRST: 0.0}, {FIRST: 0.99e-4}])
def test_rounding_is_not_warned_of(metrics: dict[str, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        end(RatioWatch(FIRST, 1e-3, "objective.clip_range"), metrics)
        end(RatioWatch(FIRST, 1e-3, "objective.clip_range"), {FIRST: 1.0}, first_process=False)
