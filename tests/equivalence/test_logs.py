"""Logs of a run that broke, or was taken back to an earlier checkpoint, are those of the uninterrupted one.

Catches in training/loggers.py: rows deleted by a resume; steps that stand twice.
Catches in training/checkpointing.py: the count of a broken iteration beside the weights from before it; what callbacks
counted in it.
Catches in training/module.py: steps by Lightning's counter.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld, assert_equal, load
from same_runs import assert_same_logs, curves, rows, state

from drift_pl.training.callbacks.diversity import DiversityMonitor
from drift_pl.training.callbacks.evaluation import HeldOutEvaluation
from drift_pl.training.module import DriftModule
from drift_pl.training.scoring import GroupScoring

OVERRIDES = ("trainer.logger=[csv,tensorboard]", "evaluation.every=2", "trainer.keep_checkpoints=-1")
LENGTH = "trainer.iterations=6"


@pytest.fixture(scope="module")
def whole(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six iterations in one go."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    world.fit(run_dir, *OVERRIDES, LENGTH)
    return run_dir


def test_what_is_compared(whole: Path) -> None:
    """Iteration i is at step i - 1, once; a look at the tuning prompts has a row of its own."""
    assert [row["step"] for row in rows(whole) if "iteration" in row] == [*"012345"]
    assert [row["step"] for row in rows(whole) if "eval/reward" in row] == [*"0135"]
    assert [step for step, _ in curves(whole)["reward/mean"]] == [0, 1, 2, 3, 4, 5]
    assert [step for step, _ in curves(whole)["samples"]] == [0, 1, 3, 5]


BREAKS: dict[str, tuple[type, str]] = {
    "reward": (GroupScoring, "__call__"),
    "update": (DriftModule, "update_policy"),
    "monitor": (DiversityMonitor, "observe_iteration"),
    "evaluation": (HeldOutEvaluation, "on_train_batch_end"),
}


@pytest.mark.parametrize("place", BREAKS)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_broken_iteration_leaves_no_trace(
    world: TinyWorld,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    error: type[BaseException],
) -> None:
    """The fourth iteration breaks, after its update or before; with it goes all that it has counted and logged."""
    kind, name = BREAKS[place]
    original, calls = getattr(kind, name), []

    def breaking(*args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        calls.append(None)
        if len(calls) == 4:
            raise error("down")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, breaking)
        with pytest.raises((RuntimeError, SystemExit)):
            world.fit(tmp_path / "run", *OVERRIDES, LENGTH)
    assert load(tmp_path / "run")["PromptDataModule"]["iteration"] == 3
    world.fit(tmp_path / "run", *OVERRIDES, LENGTH, "ckpt_path=last")
    assert_equal(state(tmp_path / "run"), state(whole), place)
    assert_same_logs(tmp_path / "run", whole)


def test_a_run_taken_back_logs_no_step_twice(world: TinyWorld, whole: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    world.fit(run_dir, *OVERRIDES, "trainer.iterations=4")
    earlier = run_dir / "checkpoints" / "iteration-000002.ckpt"
    world.fit(run_dir, *OVERRIDES, LENGTH, f"ckpt_path={earlier}")
    assert_same_logs(run_dir, whole)


def test_a_run_that_begins_again_begins_its_logs_again(
    world: TinyWorld, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before its first checkpoint."""
    original = HeldOutEvaluation.on_train_batch_end

    def killed(self: HeldOutEvaluation, *args: Any) -> None:
        original(self, *args)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(HeldOutEvaluation, "on_train_batch_end", killed)
        with pytest.raises(MemoryError):
            world.fit(tmp_path / "run", *OVERRIDES, LENGTH, "seed=5", "trainer.keep_boundary=false")
    world.fit(tmp_path / "run", *OVERRIDES, LENGTH)
    assert_same_logs(tmp_path / "run", whole)


def test_steps_that_an_earlier_version_shifted_are_right_again(world: TinyWorld, whole: Path, tmp_path: Path) -> None:
    """Lightning's counter, one too high, is in the checkpoint of a run that broke."""
    run_dir = tmp_path / "run"
    content = world.fit(run_dir, *OVERRIDES, "trainer.iterations=2")
    content["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    torch.save(content, run_dir / "checkpoints" / "last.ckpt")
    world.fit(run_dir, *OVERRIDES, LENGTH, "ckpt_path=last")
    assert_same_logs(run_dir, whole)
