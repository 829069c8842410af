"""A queue of processes on this machine: each with a log, all ended with the one that starts them."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drift_pl.core.exit_status import TERMINATED

POLL_S = 0.1


@dataclass(frozen=True)
class Job:
    """A command, and the file that its output is added to."""

    name: str
    command: Sequence[str]
    log: Path


@dataclass(frozen=True)
class Outcome:
    job: Job
    status: int
    seconds: float


def work(jobs: Sequence[Job], slots: Sequence[Mapping[str, str]]) -> Iterator[Outcome]:
    """Runs jobs in order, one per slot at a time, and yields each when it has ended.

    If this process is interrupted or terminated, or the caller stops reading, the running jobs are terminated and
    waited for: a run saves its state then.

    Args:
        slots: environment variables of the jobs of each slot, beside this process's own.
    """
    waiting, free = list(jobs), list(range(len(slots)))
    going: dict[int, tuple[Job, subprocess.Popen, float]] = {}
    with _raising_at_sigterm():
        try:
            while waiting or going:
                while waiting and free:
                    slot, job = free.pop(0), waiting.pop(0)
                    going[slot] = job, _start(job, slots[slot]), time.monotonic()
                ended = [slot for slot, (_, process, _) in going.items() if process.poll() is not None]
                for slot in ended:
                    job, process, began = going.pop(slot)
                    free.append(slot)
                    yield Outcome(job, process.returncode, time.monotonic() - began)
                if not ended:
                    time.sleep(POLL_S)
        finally:
            _end(process for _, process, _ in going.values())


def _start(job: Job, variables: Mapping[str, str]) -> subprocess.Popen:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        return subprocess.Popen(
            [*job.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )


def _end(processes: Iterator[subprocess.Popen]) -> None:
    alive = [process for process in processes if process.poll() is None]
    for process in alive:
        process.send_signal(signal.SIGTERM)
    for process in alive:
        process.wait()


@contextmanager
def _raising_at_sigterm() -> Iterator[None]:
    """SIGTERM ends this process by an exception, so that what it has started is ended first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> None:
        raise SystemExit(TERMINATED)

    earlier = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
