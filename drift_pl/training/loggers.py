"""Where metrics go: loggers of a run's folder."""

from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger


def tensorboard(run_dir: Path) -> TensorBoardLogger:
    """Events in `tensorboard/`."""
    return TensorBoardLogger(run_dir, name="", version="tensorboard")


def csv(run_dir: Path) -> CSVLogger:
    """A row per step in `csv/metrics.csv`."""
    return CSVLogger(run_dir, name="", version="csv")
