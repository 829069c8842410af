"""Which checkpoints a run keeps, and which iteration it says that it has saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld, assert_same_training_state, load

from drift_pl.config.loading import parse
from drift_pl.fit import fit, main
from drift_pl.training.module import DriftModule

CALLBACK = """
import lightning as L

class StopAfter(L.Callback):
    def __init__(self, iterations):
        self.iterations = iterations

    def on_train_batch_end(self, trainer, *args):
        if trainer.datamodule.iteration == self.iterations:
            raise KeyboardInterrupt
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("kept_world"))


def numbers(run_dir: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("iteration-")) for path in run_dir.glob("checkpoints/iteration-*.ckpt"))


def go_on(run_dir: Path, *overrides: str, ckpt_path: Path | None = None) -> None:
    fit(parse([f"ckpt_path={ckpt_path or run_dir}", *overrides]).config)


def test_a_limit_that_has_changed_counts_from_then_on(world: TinyWorld, tmp_path: Path) -> None:
    """Catches in training/numbered_checkpoints.py: Lightning's limit, which removes nothing once it has changed."""
    run = tmp_path / "run"
    world.fit(run, "trainer.iterations=4", "trainer.save_every=1", "trainer.keep_checkpoints=-1")
    assert numbers(run) == [1, 2, 3, 4]
    go_on(run, "trainer.iterations=5", "trainer.keep_checkpoints=2")
    assert numbers(run) == [4, 5]
    go_on(run, "trainer.iterations=6", "trainer.keep_checkpoints=1")
    assert numbers(run) == [6]
    go_on(run, "trainer.iterations=7", "trainer.keep_checkpoints=0")
    assert numbers(run) == [6]
    assert load(run)["PromptDataModule"]["iteration"] == 7


def test_a_run_that_was_moved_counts_what_it_has(world: TinyWorld, tmp_path: Path) -> None:
    """Catches in training/numbered_checkpoints.py: files counted by the paths that they once had."""
    run = tmp_path / "run"
    world.fit(run, "trainer.iterations=3", "trainer.save_every=1")
    (run / "checkpoints" / "iteration-best.ckpt").touch()  # somebody's own
    moved = run.rename(tmp_path / "moved")
    go_on(moved, "trainer.iterations=4")
    assert sorted(path.name for path in moved.glob("checkpoints/iteration-*")) == [
        "iteration-000003.ckpt", "iteration-000004.ckpt", "iteration-best.ckpt",
    ]  # fmt: skip


def test_going_back_removes_nothing_of_what_came_later(world: TinyWorld, tmp_path: Path) -> None:
    """Catches in training/numbered_checkpoints.py: the files of the highest numbers kept, whichever run they are of."""
    run = tmp_path / "run"
    world.fit(run, "trainer.iterations=4", "trainer.save_every=1", "trainer.keep_checkpoints=-1")
    first = run / "checkpoints" / "iteration-000001.ckpt"
    go_on(run, "trainer.iterations=2", "trainer.keep_checkpoints=1", ckpt_path=first)
    assert numbers(run) == [2, 3, 4]


@pytest.fixture
def stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stops after three iterations; another callback saves each of them elsewhere."""
    (tmp_path / "my_stop.py").write_text(CALLBACK)
    monkeypatch.syspath_prepend(str(tmp_path))
    args = f"{{dirpath: {tmp_path}/elsewhere, every_n_train_steps: 1, save_top_k: -1}}"
    return [
        "trainer.callbacks=[{name: 'my_stop:StopAfter', args: {iterations: 3}}, "
        f"{{name: 'lightning.pytorch.callbacks:ModelCheckpoint', args: {args}}}]"
    ]


def test_a_checkpoint_elsewhere_is_not_the_runs(
    world: TinyWorld, tmp_path: Path, stopping: list[str], capsys: pytest.CaptureFixture
) -> None:
    """Catches in training/checkpointing.py: any file that is written taken for last.ckpt."""
    argv = [*world.overrides(), *stopping, f"run_dir={tmp_path / 'run'}", "trainer.iterations=8"]
    assert main([*argv, "trainer.save_every=8"]) == 130
    assert len(list((tmp_path / "elsewhere").iterdir())) >= 2
    # the third iteration was not complete: callbacks belong to it
    assert "stopped after iteration 2; resume with" in capsys.readouterr().err
    assert load(tmp_path / "run")["PromptDataModule"]["iteration"] == 2


def test_what_ctrl_c_has_cut_short_is_saved_again(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Catches in training/checkpointing.py: a checkpoint counted before it is there."""
    save, writes = torch.save, []

    def cut_once(content: dict[str, Any], file: Any) -> None:
        writes.append(file.name)
        if len(writes) == 3:  # a numbered one and last.ckpt after two iterations, then the second numbered one
            raise KeyboardInterrupt
        save(content, file)

    monkeypatch.setattr(torch, "save", cut_once)
    run = tmp_path / "run"
    assert main([*world.overrides(), f"run_dir={run}", "trainer.iterations=8"]) == 130
    assert "stopped after iteration 4; resume with" in capsys.readouterr().err
    assert load(run)["PromptDataModule"]["iteration"] == 4
    assert numbers(run) == [2]


def test_without_a_copy_the_line_names_what_is_saved(
    world: TinyWorld, tmp_path: Path, stopping: list[str], capsys: pytest.CaptureFixture
) -> None:
    """Catches in fit.py: the iteration that was reached, of which nothing is kept."""
    run = tmp_path / "run"
    argv = [*world.overrides(), *stopping, f"run_dir={run}", "trainer.iterations=8", "trainer.keep_boundary=false"]
    assert main(argv) == 130
    kept = load(run)["PromptDataModule"]["iteration"]
    assert f"stopped after iteration {kept}; resume with" in capsys.readouterr().err


def test_a_run_that_goes_on_elsewhere_is_not_begun_anew(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Stopped in its first iteration there, it has the state that it came with.

    Catches in training/checkpointing.py: the checkpoint of another folder counted as saved here.
    """
    run, new = tmp_path / "run", tmp_path / "new"
    before = world.fit(run, "trainer.iterations=2")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DriftModule, "training_step", interrupted)
    assert main([f"ckpt_path={run}", f"run_dir={new}", "trainer.iterations=6"]) == 130
    assert "stopped after iteration 2; resume with" in capsys.readouterr().err
    assert_same_training_state(load(new), before)
