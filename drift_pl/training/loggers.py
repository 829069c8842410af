"""Where metrics go: loggers of a run's folder. A run that is resumed drops the steps that it is going to repeat."""

import csv as comma_separated
import os
import secrets
from pathlib import Path
from typing import Any

from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from drift_pl.core.errors import UserError
from drift_pl.core.files import replacing, write_json
from drift_pl.core.json_files import read_json
from drift_pl.core.processes import is_first_process


def tensorboard(run_dir: Path, done: int = 0) -> TensorBoardLogger:
    """Events in `tensorboard/`.

    Args:
        done: iterations that are done; TensorBoard hides what an earlier part of the run logged after them.
    """
    return _TensorBoard(run_dir, name="", version="tensorboard", purge_step=done, default_hp_metric=False)


class _TensorBoard(TensorBoardLogger):
    """Lightning's may leave half of a hparams.yaml when it is killed, and never mends it.

    It also takes a `$` or a `~` in a folder's name for a variable, or for somebody's home.
    """

    @property
    def log_dir(self) -> str:
        return os.path.join(self.root_dir, str(self.version))

    @rank_zero_only
    def save(self) -> None:
        file = Path(self.log_dir) / self.NAME_HPARAMS_FILE
        if not file.is_file():
            _write_settings(file, self.hparams)
        super().save()


def wandb(run_dir: Path, project: str = "drift_pl", **options: Any) -> Logger:
    """Weights & Biases; a run that is resumed goes on in the same run there.

    Args:
        project: its name at Weights & Biases.
        options: of Lightning's `WandbLogger` and of `wandb.init`, e.g. entity, offline, tags.
    """
    from lightning.pytorch.loggers import WandbLogger
    from wandb import Settings

    file = run_dir / "wandb.json"
    try:
        own = str(read_json(file)["id"])
    except (ValueError, KeyError, TypeError):
        own = secrets.token_hex(4)
        if is_first_process():
            write_json(file, {"id": own})
    # neither the command line nor what is printed: both may hold what a service is not to know
    quiet = Settings(console="off", x_disable_meta=True, disable_git=True)
    given = {"name": run_dir.name, "id": own, "resume": "allow", "save_dir": str(run_dir), "settings": quiet}
    return WandbLogger(project=project, **{**given, **options})


def csv(run_dir: Path, done: int = 0) -> CSVLogger:
    """A row per step in `csv/metrics.csv`, and one more for an evaluation.

    Args:
        done: iterations that are done; their rows are kept.
    """
    return _ContinuedCsv(run_dir, done)


class _ContinuedCsv(CSVLogger):
    """Lightning's deletes what is there."""

    def __init__(self, run_dir: Path, done: int) -> None:
        super().__init__(run_dir, name="", version="csv")
        self._done = done
        self._experiment: ExperimentWriter | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _ContinuedWriter(self.log_dir, self._done)
        return self._experiment


class _ContinuedWriter(ExperimentWriter):
    def __init__(self, log_dir: str, done: int) -> None:
        self._done = done
        super().__init__(log_dir)

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Lightning's writes the file in its place."""
        self.hparams.update(params)
        _write_settings(Path(self.log_dir) / self.NAME_HPARAMS_FILE, self.hparams)

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        try:
            text = path.read_text(encoding="utf-8")
            # a line that a kill has cut short is not a row
            reader = comma_separated.DictReader(text[: text.rfind("\n") + 1].split("\n"))
            rows = [row for row in reader if (row["step"] or "").isdigit() and int(row["step"]) < self._done]
        except (KeyError, UnicodeDecodeError, comma_separated.Error) as error:
            raise UserError(f"{path} is not a table that trainer.logger=[csv] wrote: move it elsewhere") from error
        self.metrics_keys = list(reader.fieldnames or [])
        self._write(rows)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with open(self.metrics_file_path, encoding="utf-8", newline="") as file:
            rows = list(comma_separated.DictReader(file))
        self._write(rows)

    def _write(self, rows: list[dict[str, str]]) -> None:
        path = Path(self.metrics_file_path)
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = comma_separated.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)


def _write_settings(file: Path, settings: Any) -> None:
    with replacing(file) as temporary:
        save_hparams_to_yaml(temporary, settings)
