"""metrics.csv of a run that is resumed: earlier rows stay, later ones go, half a line is none.

Catches in training/loggers.py: rows lost by a second kill; half a line read as a row; settings written in their place.
"""

from pathlib import Path
from typing import Any

import pytest

from drift_pl.core.errors import UserError
from drift_pl.training import loggers
from drift_pl.training.loggers import csv, tensorboard


def log(run_dir: Path, done: int, *steps: int, name: str = "a") -> list[str]:
    logger = csv(run_dir, done)
    for step in steps:
        logger.log_metrics({name: step / 2}, step)
        logger.save()
    logger.finalize("success")
    return (run_dir / "csv" / "metrics.csv").read_text(encoding="utf-8").splitlines()


def test_rows_that_are_done_stay(tmp_path: Path) -> None:
    assert log(tmp_path, 0, 0, 1, 2) == ["a,step", "0.0,0", "0.5,1", "1.0,2"]
    assert log(tmp_path, 2, 2, 3) == ["a,step", "0.0,0", "0.5,1", "1.0,2", "1.5,3"]
    assert log(tmp_path, 1, 1, name="b") == ["a,b,step", "0.0,,0", ",0.5,1"]
    assert log(tmp_path, 0, 0) == ["a,b,step", "0.0,,0"]


def test_they_are_there_before_anything_else_is_logged(tmp_path: Path) -> None:
    """A second kill comes before the first new row."""
    log(tmp_path, 0, 0, 1, 2)
    csv(tmp_path, 2).experiment  # noqa: B018
    assert (tmp_path / "csv" / "metrics.csv").read_text().split() == ["a,step", "0.0,0", "0.5,1"]


@pytest.mark.parametrize("end", ["1.0,1", "1.0,", "1", '"1.0', ""])
def test_half_a_line_is_dropped(tmp_path: Path, end: str) -> None:
    log(tmp_path, 0, 0, 1)
    with (tmp_path / "csv" / "metrics.csv").open("a") as file:
        file.write(end)
    assert log(tmp_path, 20, 20) == ["a,step", "0.0,0", "0.5,1", "10.0,20"]


def test_another_table_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("mine\n1\n")
    with pytest.raises(UserError, match=r"metrics\.csv is not a table that trainer\.logger=\[csv\] wrote: move it"):
        log(tmp_path, 1, 1)
    assert (tmp_path / "csv" / "metrics.csv").read_text() == "mine\n1\n"


@pytest.mark.parametrize("make", [csv, tensorboard])
def test_a_kill_leaves_no_half_of_the_settings(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hparams.yaml is not there, or is the earlier one."""

    def is_killed(file: Path, settings: Any) -> None:
        Path(file).write_text("sampler.wi")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loggers, "save_hparams_to_yaml", is_killed)
        logger = make(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            logger.log_hyperparams({"a": 1}) or logger.save()
    assert not list(tmp_path.rglob("hparams.yaml"))
    logger = make(tmp_path)
    logger.log_hyperparams({"a": 1})
    logger.save()
    (file,) = tmp_path.rglob("hparams.yaml")
    assert file.read_text() == "a: 1\n"


def test_a_folder_is_what_it_is_called(tmp_path: Path) -> None:
    """Catches in training/loggers.py: Lightning's, which takes $HOME in a name for the variable."""
    folder = tmp_path / "$HOME" / "~"
    logger = tensorboard(folder)
    logger.log_hyperparams({"a": 1})
    logger.log_metrics({"b": 1.0}, step=0)
    logger.finalize("success")
    assert {path.name.partition(".")[0] for path in (folder / "tensorboard").iterdir()} == {"events", "hparams"}
