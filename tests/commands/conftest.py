"""A tiny run with checkpoints along the way, shared by the tests of the command that measures it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld

from drift_pl.evaluate import main
from drift_pl.evaluation.record import Evaluation
from drift_pl.evaluation.record_file import read_evaluation

OVERRIDES = (
    *("trainer.iterations=4", "evaluation.every=2", "trainer.keep_checkpoints=-1"),
    *("evaluation.rewards=[{name: jpeg_compressibility}]", "evaluation.extra=[rke, fid]"),
)


@pytest.fixture(scope="session")
def evaluated_world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """A world whose tuning prompts are not its test prompts."""
    world = TinyWorld.create(tmp_path_factory.mktemp("world"))
    (world.root / "tuning.txt").write_text("any bar\na blue dot\na big red dot\n")
    return world


@pytest.fixture(scope="session")
def make_run(evaluated_world: TinyWorld) -> Callable[..., Path]:
    """Fits, with a checkpoint and an evaluation on the tuning prompts after every second iteration."""

    def make(run_dir: Path, *overrides: str) -> Path:
        evaluated_world.fit(run_dir, *OVERRIDES, f"prompts.tuning={evaluated_world.root}/tuning.txt", *overrides)
        return run_dir

    return make


@pytest.fixture(scope="session")
def tiny_run(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four iterations."""
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="session")
def remade(tiny_run: Path) -> Callable[..., Path]:
    """Makes a run folder with one checkpoint: the run's last, changed."""

    def make(folder: Path, change: Callable[[dict[str, Any]], Any], name: str = "iteration-000004.ckpt") -> Path:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_run / "config.yaml", folder)
        content = torch.load(tiny_run / "checkpoints" / "iteration-000004.ckpt", weights_only=True)
        change(content)
        torch.save(content, folder / "checkpoints" / name)
        return folder

    return make


@pytest.fixture(scope="session")
def evaluation(tiny_run: Path) -> Evaluation:
    """What the command makes of the whole run, in the run's own record."""
    assert main([f"ckpt_path={tiny_run}"]) == 0
    return read_evaluation(tiny_run)


@pytest.fixture
def measure(tiny_run: Path, tmp_path: Path) -> Callable[..., Evaluation]:
    """Runs the command with a file of the test's own."""

    def call(*argv: str, ckpt_path: object = tiny_run, status: int = 0) -> Evaluation:
        assert main([f"ckpt_path={ckpt_path}", f"out={tmp_path / 'mine.json'}", *argv]) == status
        return read_evaluation(tmp_path / "mine.json")

    return call
