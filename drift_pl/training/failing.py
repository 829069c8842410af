"""Processes that fail, stop or vanish together: what ends one of them ends all, with one line and one status.

Each process has a connection to the first one (core/links.py), and a thread that listens to it. A process that fails
says so there before anything else; the others are then interrupted wherever they are (training/collectives.py). An
ordinary iteration needs no collective for this.
"""

import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import lightning as L

from drift_pl.core.exit_status import INTERRUPTED, TERMINATED, USER_ERROR
from drift_pl.core.link_thread import Ending, Link
from drift_pl.core.links import Hub, Spoke
from drift_pl.core.processes import Patience
from drift_pl.training.checkpointing import saves_alone
from drift_pl.training.collectives import abort_collectives, cut_connections, lost_contact, timed_out

GRACE_S = 10.0
"""From SIGTERM for the iteration to end; then the copy of the state from before it is saved."""
LEAVE_S, LEAVE_FIRST_S = 3.0, 15.0
"""For the main thread to be interrupted; in the first process that may need the others to have left."""
HEAR_S = 25.0
"""For the connections to tell why a collective broke."""
ECHO_S = 10.0
"""For the first process to repeat what this one says: without it both would report."""


class JobEnded(BaseException):
    """Raised in the main thread when all processes end.

    Args:
        together: all raise it at the same boundary, so that collectives still work.
    """

    def __init__(self, together: bool = False) -> None:
        super().__init__()
        self.together = together


class RankWatch(L.Callback):
    """Ends all processes of a run together. Must be the first of the callbacks.

    Args:
        describe: exception -> the line that a user gets of it, and the exit status.
        resume: the command that resumes the run.
        saved: the iteration that the last checkpoint holds.
        patience: after which collectives give up.
        has_copy: there is a copy of the state from before the iteration. Without one, or if the first process cannot
            save it alone, SIGTERM waits for the iteration's end.
    """

    def __init__(
        self,
        describe: Callable[[BaseException], tuple[str, int]],
        resume: str,
        saved: Callable[[], int],
        patience: Patience,
        has_copy: bool,
    ) -> None:
        self._describe, self._resume, self._saved = describe, resume, saved
        self._patience, self._has_copy = patience, has_copy
        self._trainer: L.Trainer | None = None
        self._link: Link | None = None
        self._told = False  # the main thread has left its work
        self._cut = False
        self._since, self._terminations = 0.0, 0
        self._handlers: dict[int, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Connects the processes. One that cannot be connected is watched by the collectives' timeout only."""
        self._trainer = trainer
        self._has_copy = self._has_copy and saves_alone(trainer.strategy)
        address = os.environ.get("MASTER_ADDR", "127.0.0.1")
        callbacks = (self._interrupt, self._on_signal, self._on_tick)
        if trainer.is_global_zero:
            hub = Hub(address if address == "localhost" or address.startswith("127.") else "", *callbacks)
            trainer.strategy.broadcast((hub.port, hub.token))
            self._link = hub
        else:
            port, token = trainer.strategy.broadcast(None)
            with suppress(OSError):
                self._link = Spoke(trainer.global_rank, (address, port), token, *callbacks)
        take_over(trainer, self.goes_on)
        if self._link is None:
            warnings.warn(
                f"process {trainer.global_rank} cannot connect to {address}:{port}: if it fails, the others notice "
                f"after {self._patience}",
                stacklevel=1,
            )
            return
        self._link.start()
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._link.waker.fileno(), warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._in_main_thread)

    def goes_on(self) -> None:
        """Called on all processes before an iteration.

        Raises:
            JobEnded: a stop was asked for, and all processes are at this boundary.
        """
        if self._link is not None and self._trainer and not self._link.goes_on(self._trainer.datamodule.iteration):
            self._told = True
            raise JobEnded(together=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Tells the other processes before this one does anything else, so that none waits for it."""
        self._told = True
        if self._link is None or isinstance(exception, JobEnded):
            return
        if not lost_contact(exception):
            self._link.end(Ending(*self._describe(exception), trainer.global_rank))
        elif not self._link.known.wait(1.0 if timed_out(exception) else HEAR_S):
            self._link.end(Ending(self._waited(), USER_ERROR, trainer.global_rank, lost=True))
        self._link.known.wait(ECHO_S)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.close()

    def close(self) -> None:
        """Needs no other process any more."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._handlers:
            signal.set_wakeup_fd(-1)
            self._handlers = {}
        if self._link is not None:
            self._link.close()
            self._link = None

    def end(self, error: BaseException) -> None:
        """What follows when `Trainer.fit` has raised `error`: one process reports, and the others leave silently.

        Returns in a process that is to raise its own error.

        Raises:
            SystemExit: in the first process, when it was ended by another.
        """
        ended = isinstance(error, JobEnded) or lost_contact(error)
        ending = self._link.ending if self._link is not None else None
        if ending is None and not ended:
            return
        if ending is None:
            gone = "another process ended while this one waited for it; its own message says why"
            lost = Ending(self._waited() if timed_out(error) else gone, USER_ERROR, lost=True)
            ending = Ending("", TERMINATED) if isinstance(error, JobEnded) else lost
        trainer = self._trainer
        if trainer is not None and not self._told:  # interrupted on the way to where Lightning tells its callbacks
            for callback in trainer.callbacks:
                callback.on_exception(trainer, trainer.lightning_module, error)
        if trainer is None or trainer.is_global_zero:
            if not ended and ending.rank == 0:
                return
            print(self.last_words(ending), file=sys.stderr, flush=True)
            raise SystemExit(ending.status) from None
        if not ended and ending.status == 1:
            traceback.print_exception(error)
        self._leave(ending)

    def last_words(self, ending: Ending) -> str:
        """What the user reads of it."""
        saved = f"the run is saved as of iteration {self._saved()}" if self._saved() else "no iteration is saved yet"
        if not ending.line:
            return f"stopped after iteration {self._saved()}; resume with: {self._resume}"
        if ending.lost:
            return f"error: {ending.line}; {saved}, resume it with: {self._resume}"
        if ending.status == 1:
            return f"error: process {ending.rank} failed with {ending.line}; its own output has the traceback"
        return f"error: {ending.line}" + ("" if self._has_copy else f" ({saved})")

    def _waited(self) -> str:
        return (
            f"the processes have waited for each other for {self._patience} seconds: one of them "
            "hangs or was not started, or a link between hosts is down"
        )

    def _in_main_thread(self, *_: object) -> None:
        """The handler of signals. `_on_signal` deals with those from outside; these are from `_interrupt`."""
        if self._link is not None and self._link.ending is not None and not self._told:
            raise JobEnded

    def _interrupt(self, ending: Ending) -> None:
        self._since = self._since or time.monotonic()
        abort_collectives()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _on_signal(self, number: int) -> None:
        if self._link is None or self._link.ending is not None:
            return
        if number == signal.SIGINT or (number == signal.SIGTERM and self._terminations):
            status = INTERRUPTED if number == signal.SIGINT else TERMINATED
            self._link.end(Ending("", status, self._link.rank))
        elif number == signal.SIGTERM:
            self._terminations += 1
            self._link.request_stop()

    def _on_tick(self) -> None:
        link, now = self._link, time.monotonic()
        if isinstance(link, Hub) and self._has_copy and link.asked and now - link.asked > GRACE_S:
            link.end(Ending("", TERMINATED))
        if link is None or link.ending is None:
            return
        first = link.rank == 0
        if first and not self._told and not self._cut and now - self._since > LEAVE_S:
            self._cut = True
            cut_connections()
        if not self._told and now - self._since < (LEAVE_FIRST_S if first else LEAVE_S):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # an exception can get lost
        elif not self._told or now - self._since > (self._patience.seconds if first else LEAVE_FIRST_S):
            if first:
                print(self.last_words(link.ending), file=sys.stderr)
            self._leave(link.ending)

    def _leave(self, ending: Ending) -> None:
        """Ends this process without waiting for any of its threads."""
        trainer = self._trainer
        if trainer and ending.lost and ending.rank == 0 and trainer.local_rank == (trainer.node_rank == 0):
            print(self.last_words(ending), file=sys.stderr)  # the first that is left on its host
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ending.status)


def take_over(trainer: L.Trainer, goes_on: Callable[[], None]) -> None:
    """Puts `goes_on` in the place of what Lightning does about signals and dead processes.

    Its handler of SIGTERM enters a collective, and each iteration has another; on SLURM it saves amid an iteration. Its
    observer of child processes kills all five seconds after one has failed, also while the run is being saved.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = goes_on
    for thread in threading.enumerate():
        if hasattr(thread, "_child_processes"):
            thread._child_processes = []
