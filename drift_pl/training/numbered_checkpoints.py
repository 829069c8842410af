"""Checkpoints of a run at regular intervals: numbered ones, of which the newest stay, and last.ckpt."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from drift_pl.core.checkpoint_files import DIGITS, PREFIX, number_of, numbered
from drift_pl.training.checkpointing import BoundaryCheckpoint


class NumberedCheckpoints(ModelCheckpoint):
    """Saves at the end of each epoch.

    Which files are kept is read off the folder. Lightning remembers paths and a limit, so that it removes nothing any
    more once the folder has been moved or the limit has changed.

    Args:
        folder: of the files.
        keep: numbered files that stay, -1 for all; those of later iterations, of a run that goes on from an earlier
            one, do not count.
        boundary: is told what last.ckpt holds once it is there.
    """

    def __init__(self, folder: Path, keep: int, boundary: BoundaryCheckpoint) -> None:
        super().__init__(
            dirpath=folder,
            filename=f"{PREFIX}{{iteration:0{DIGITS}.0f}}",
            auto_insert_metric_name=False,
            monitor="iteration",
            mode="max",
            save_top_k=-1 if keep else 0,
            save_last=True,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self._folder, self._keep, self._boundary = folder, keep, boundary

    @property
    def state_key(self) -> str:
        """Lightning's own, under which earlier checkpoints have its state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def _save_last_checkpoint(self, trainer: L.Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        super()._save_last_checkpoint(trainer, monitor_candidates)
        self._boundary.has_saved(trainer.datamodule.iteration)
        if trainer.is_global_zero and self._keep > 0:
            self._remove_old(trainer.datamodule.iteration)

    def _remove_old(self, iteration: int) -> None:
        done = [path for path in numbered(self._folder) if number_of(path) <= iteration]
        for path in done[: -self._keep]:
            path.unlink(missing_ok=True)
            self.best_k_models.pop(str(path), None)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes nothing: the folder says what is there, and Lightning's would warn of one that was moved."""
