"""Length of a run, why it ended, and how far it is."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, Timer

from drift_pl.core.errors import UserError
from drift_pl.core.processes import gather_vectors
from drift_pl.core.progress import Display, Stage
from drift_pl.core.run_status import write_status
from drift_pl.training.callbacks.alarm import DiversityAlarm
from drift_pl.training.reporting import STAGES


class RunLength(L.Callback):
    """Ends the run after a number of iterations, independently of Lightning's epochs; the run can be extended later.

    Must come after other callbacks that may end it.

    Args:
        iterations: total length, counted from the start of the run, not from a resume.
        trained: nothing is left to train: what a checkpoint's run still lacks is its evaluation.
        agree: callbacks that others wrote may end the run on some processes only; then all end it.
    """

    def __init__(self, iterations: int, trained: bool = False, agree: bool = False) -> None:
        self.iterations, self._trained, self._agree = iterations, trained, agree
        self._why: str | None = None
        self._stopped: str | None = None

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._stopped = checkpoint.get("stopped")
        self._why = self._stopped if self._trained else None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A timer may have run out before: Lightning would then also skip what comes before and after training.

        Raises:
            UserError: the run is to be trained on, and what had stopped it stops it again.
        """
        if trainer.should_stop and self._stopped and not self._trained:
            raise UserError(
                f"trainer.callbacks: the run was stopped before ({self._stopped}), and would be again: give another "
                "duration or threshold, or leave the callback out"
            )
        self._trained = self._trained or trainer.should_stop
        trainer.should_stop = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._trained:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        if trainer.datamodule.iteration >= self.iterations:
            trainer.should_stop = True
        self._end_together(trainer, pl_module.device)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end_together(trainer, pl_module.device)

    def _end_together(self, trainer: L.Trainer, device: torch.device) -> None:
        if self._agree and trainer.world_size > 1:
            trainer.should_stop = bool(gather_vectors(torch.tensor([float(trainer.should_stop)]), device).any())

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["stopped"] = self.why_stopped(trainer)

    def why_stopped(self, trainer: L.Trainer) -> str | None:
        """What has ended the run before its length; None if nothing has."""
        if not trainer.should_stop or trainer.datamodule.iteration >= self.iterations:
            return None
        reasons = map(_reason_of, trainer.callbacks)
        return self._why or next(filter(None, reasons), "a callback of trainer.callbacks ended the run")


def _reason_of(callback: L.Callback) -> str | None:
    """Why a callback has ended the run; None if it has not, or cannot tell."""
    if isinstance(callback, DiversityAlarm):
        return callback.stopped
    if isinstance(callback, Timer):
        remaining = callback.time_remaining()
        return "Timer: its duration has passed" if remaining is not None and remaining <= 0 else None
    if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
        return f"EarlyStopping: {callback.monitor} did not improve {callback.patience} times in a row"
    if isinstance(callback, EarlyStopping) and callback.stopped_epoch:
        return f"EarlyStopping: {callback.monitor} passed a threshold, or was not finite"
    return None


class RunProgress(L.Callback):
    """Shows iteration, reward, diversity, images/s and time left; once, what an iteration costs.

    Must come before `HeldOutEvaluation`, so that training has ended when the last evaluation begins.

    Args:
        iterations: length of the run.
        display: where it is shown.
    """

    def __init__(self, iterations: int, display: Display) -> None:
        self._iterations, self._display = iterations, display
        self._stage: Stage | None = None
        self._told = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._stage is None:
            done = trainer.datamodule.iteration
            self._stage = self._display.begin("training", self._iterations, "iterations", done)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._display.advance(describe(outputs["metrics"]), trainer.datamodule.iteration)
        if not self._told:
            self._told = True
            self._display.note(f"one iteration: {cost(outputs['metrics'], pl_module.device)}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._stage is not None:
            self._display.end(self._stage)


class RunStatus(L.Callback):
    """Keeps `status.json` of the run's folder: how far it is, for `drift-pl runs`.

    Args:
        every_s: least seconds between writes.
    """

    def __init__(self, run_dir: Path, iterations: int, every_s: float = 5.0) -> None:
        self._run_dir, self._iterations, self._every_s = run_dir, iterations, every_s
        self._written = 0.0
        self._status: dict[str, Any] = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        metrics = outputs["metrics"]
        self._status = {
            "iteration": trainer.datamodule.iteration,
            "iterations": self._iterations,
            "reward": metrics["reward/mean"],
            "pairwise_distance": metrics.get("diversity/pairwise_distance"),
        }
        if time.monotonic() - self._written > self._every_s:
            self._write(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero and self._status:
            self._written = time.monotonic()
            write_status(self._run_dir, self._status)


def describe(metrics: dict[str, float]) -> str:
    """Reward, diversity and throughput in one line."""
    parts = [f"reward {metrics['reward/mean']:.3f}"]
    if "diversity/pairwise_distance" in metrics:
        parts.append(f"diversity {metrics['diversity/pairwise_distance']:.3f}")
    parts.append(f"{metrics['time/images_per_s']:.0f} images/s")
    return "  ".join(parts)


def cost(metrics: dict[str, float], device: torch.device) -> str:
    """Time by stage, and the most memory so far."""
    seconds = {name: metrics[f"time/{name}_s"] for name in STAGES}
    stages = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    return f"{sum(seconds.values()):.1f} s ({stages}), {memory(device)}"


def memory(device: torch.device) -> str:
    """The most memory that this process has used, of the accelerator or else of the machine."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} of {total / 2**30:.0f} GiB of GPU memory"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB of main memory"
