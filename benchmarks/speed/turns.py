"""Several training runs in one process, one iteration at a time: a run waits in its thread until it has its turn."""

import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from drift_pl.builders.run import Run, build_run
from drift_pl.config.loading import parse
from drift_pl.training.callbacks import DiversityAlarm, DiversityMonitor

MANY = 10_000
SHORT = (
    *(f"trainer.iterations={MANY}", f"trainer.save_every={MANY}", "trainer.logger=[]", "trainer.progress=false"),
    *("trainer.threads=1", "trainer.accelerator=cpu", "evaluation.every=0", "evaluation.max_prompts=1"),
    *("evaluation.seeds_per_prompt=2", "evaluation.grid_seeds=1", "evaluation.measures=[]"),
)
"""A run that never ends by itself, without logger and with next to no evaluation."""


class Halt(Callback):
    """Hands the turn back after each iteration; the last callback of the list, so that all others are timed."""

    def __init__(self, turns: "TrainingRun") -> None:
        self.turns = turns

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.turns.hand_back()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.turns.hand_back()
        if self.turns.stopped:
            trainer.should_stop = True


class TrainingRun:
    """A run of `fit`'s objects in a thread of its own; `iterate` lets it do one whole iteration.

    Args:
        overrides: settings as on the command line.
        monitored: with the diversity of the training images, which scripts do not measure.

    Attributes:
        run: trainer, module and data.
        step_seconds, seconds: CPU seconds of the last `training_step`, and of the last whole iteration.
    """

    def __init__(self, overrides: Sequence[str], monitored: bool = True) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.config = parse([*overrides, *SHORT, f"run_dir={self.folder.name}/run"]).config
        self.run: Run = build_run(self.config, Path(self.folder.name) / "run")
        callbacks = self.run.trainer.callbacks
        if not monitored:
            self.run.module.score = replace(self.run.module.score, monitor=None)
            callbacks[:] = [one for one in callbacks if not isinstance(one, (DiversityAlarm, DiversityMonitor))]
        callbacks.append(Halt(self))
        self.step_seconds = self.seconds = 0.0
        self.stopped = False
        self._error: BaseException | None = None
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        self._step = self.run.module.training_step
        self.run.module.training_step = self._timed_step  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()
        self._theirs.acquire()
        self._raise()

    def iterate(self) -> float:
        """CPU seconds of one whole iteration: `training_step`, callbacks, Lightning's loop."""
        self._mine.release()
        self._theirs.acquire()
        self._raise()
        return self.seconds

    def iterate_step(self) -> float:
        """CPU seconds of the `training_step` of one iteration."""
        self.iterate()
        return self.step_seconds

    def close(self) -> None:
        """Ends the run after one more iteration."""
        self.stopped = True
        self._mine.release()
        self._theirs.acquire()
        self._mine.release()
        self._thread.join()
        self.folder.cleanup()

    def hand_back(self) -> None:
        """Called in the run's thread, at the end of an iteration."""
        self.seconds = time.thread_time() - getattr(self, "_began", time.thread_time())
        self._theirs.release()
        self._mine.acquire()
        self._began = time.thread_time()

    def _timed_step(self, *batch: Any) -> Any:
        began = time.thread_time()
        result = self._step(*batch)
        self.step_seconds = time.thread_time() - began
        return result

    def _train(self) -> None:
        try:
            self.run.trainer.fit(self.run.module, datamodule=self.run.datamodule)
        except BaseException as error:  # shown in the thread that waits
            self._error = error
        finally:
            self._theirs.release()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
