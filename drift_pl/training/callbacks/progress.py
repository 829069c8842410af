"""Length of a run, why it ended, and its progress display."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, Timer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from drift_pl.training.callbacks.alarm import DiversityAlarm


class RunLength(L.Callback):
    """Ends the run after a number of iterations, independently of Lightning's epochs; the run can be extended later.

    Must come after other callbacks that may end it.

    Args:
        iterations: total length, counted from the start of the run, not from a resume.
        trained: nothing is left to train: what a checkpoint's run still lacks is its evaluation.
    """

    def __init__(self, iterations: int, trained: bool = False) -> None:
        self.iterations, self._trained = iterations, trained
        self._why: str | None = None

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._why = checkpoint.get("stopped") if self._trained else None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A timer may have run out before: Lightning would then also skip what comes before and after training."""
        self._trained = self._trained or trainer.should_stop
        trainer.should_stop = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._trained:
            trainer.should_stop = True

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        if trainer.datamodule.iteration >= self.iterations:
            trainer.should_stop = True

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
    """Progress bar of the run: iteration, reward, diversity, images/s, time left; plain lines without a terminal.

    Args:
        iterations: length of the run.
        line_every: iterations between lines without a terminal.
    """

    def __init__(self, iterations: int, line_every: int = 10) -> None:
        self._iterations, self._line_every = iterations, line_every
        self._bar: Progress | None = None
        self._started = 0.0
        self._first = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._started, self._first = time.perf_counter(), trainer.datamodule.iteration
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
        )
        if self._bar.console.is_terminal:
            self._bar.start()
        self._bar.add_task("iteration", total=self._iterations, completed=self._first, status="")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is None:
            return
        done = trainer.datamodule.iteration
        status = describe(outputs["metrics"])
        self._bar.update(self._bar.task_ids[0], completed=done, status=status)
        if not self._bar.console.is_terminal and (done % self._line_every == 0 or done == self._iterations):
            left = (time.perf_counter() - self._started) / (done - self._first) * (self._iterations - done)
            print(f"iteration {done}/{self._iterations}  {status}  {left:.0f} s left", flush=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe(metrics: dict[str, float]) -> str:
    """Reward, diversity and throughput in one line."""
    parts = [f"reward {metrics['reward/mean']:.3f}"]
    if "diversity/pairwise_distance" in metrics:
        parts.append(f"diversity {metrics['diversity/pairwise_distance']:.3f}")
    parts.append(f"{metrics['time/images_per_s']:.0f} images/s")
    return "  ".join(parts)
