"""What Lightning does by itself: callbacks that do not work here, and what it takes from the environment."""

import csv
from pathlib import Path

import pytest
from lightning.pytorch.utilities import rank_zero_only
from runs import TinyWorld

from drift_pl.builders.callbacks import build_further_callbacks
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.fit import main


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("lightning_world"))


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        ("{name: 'lightning.pytorch.callbacks:RichProgressBar'}", "Lightning refuses one of"),
        ("{name: 'lightning.pytorch.callbacks:LearningRateFinder'}", "Lightning's lr_finder does not work here"),
        (
            "{name: 'lightning.pytorch.callbacks:ModelPruning', args: {pruning_fn: l1_unstructured}}",
            "Lightning's pruning does not work here",
        ),
    ],
)
def test_a_callback_that_does_not_work_is_one_line(
    world: TinyWorld, tmp_path: Path, callback: str, words: str, capsys: pytest.CaptureFixture
) -> None:
    """Catches in builders/hardware.py: the accelerator blamed. In config/command.py: a traceback of Lightning's."""
    argv = [*world.overrides(), f"trainer.callbacks=[{callback}]", f"run_dir={tmp_path / 'run'}"]
    assert main([*argv, "trainer.iterations=2"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: trainer.callbacks: ")
    assert words in line
    assert line.endswith("leave it out")


def test_a_run_of_one_process_logs_whatever_number_a_launcher_gave_it(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several runs in one `srun`: the second has SLURM_PROCID=1, which Lightning reads when it is imported.

    Catches in builders/run.py: no metrics, and with TensorBoard a traceback.
    """
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    run = tmp_path / "run"
    assert main([*world.overrides(), f"run_dir={run}", "trainer.iterations=2", "trainer.logger=[csv,tensorboard]"]) == 0
    with (run / "csv" / "metrics.csv").open() as file:
        assert any(row["reward/mean"] for row in csv.DictReader(file))
    assert list((run / "tensorboard").glob("events*"))


def test_a_callback_that_needs_a_logger_is_refused_before_anything_is_measured() -> None:
    """Catches in builders/callbacks.py: Lightning refuses it when the base model has been measured."""
    monitor = "trainer.callbacks=[{name: 'lightning.pytorch.callbacks:LearningRateMonitor'}]"
    assert build_further_callbacks(parse([monitor]).config)
    said = r"trainer\.callbacks\.0: 'lightning\.pytorch\.callbacks:LearningRateMonitor' needs a logger: give e\.g\. "
    with pytest.raises(UserError, match=said + r"trainer\.logger=\[csv\]"):
        build_further_callbacks(parse([monitor, "trainer.logger=[]"]).config)
