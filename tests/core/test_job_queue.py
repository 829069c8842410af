"""A queue of processes: as many at a time as there are slots, none left when it ends.

Catches in core/job_queue.py: a slot that is given to two jobs at once; jobs that live on when the queue is interrupted
or terminated; a job that is not waited for while it saves.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drift_pl.core.job_queue import Job, work

SLEEPER = """
import pathlib, signal, sys, time
def leave(*_):
    time.sleep(0.3)
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
time.sleep(60)
"""


def job(folder: Path, name: str, code: str, *arguments: str) -> Job:
    return Job(name, [sys.executable, "-S", "-c", code, *arguments], folder / "logs" / f"{name}.log")


def test_each_slot_has_one_job_at_a_time(tmp_path: Path) -> None:
    """A job that finds its slot's file there is beside another."""
    code = """
import os, pathlib, sys, time
mine = pathlib.Path(sys.argv[1]) / os.environ["SLOT"]
mine.open("x").close()
time.sleep(0.2)
mine.unlink()
print("did", sys.argv[2])
sys.exit(int(sys.argv[2]) % 2)"""
    jobs = [job(tmp_path, str(number), code, str(tmp_path), str(number)) for number in range(5)]
    outcomes = list(work(jobs, [{"SLOT": "a"}, {"SLOT": "b"}]))
    assert {outcome.job.name: outcome.status for outcome in outcomes} == {"0": 0, "1": 1, "2": 0, "3": 1, "4": 0}
    assert [each.log.read_text() for each in jobs] == [f"did {number}\n" for number in range(5)]
    assert all(outcome.seconds >= 0.2 for outcome in outcomes)


def test_a_log_is_added_to(tmp_path: Path) -> None:
    for _ in range(2):
        list(work([job(tmp_path, "one", "print(1)")], [{}]))
    assert (tmp_path / "logs" / "one.log").read_text() == "1\n1\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_runs_is_ended_with_the_queue(tmp_path: Path, number: int) -> None:
    """The signal reaches the queue alone; the job is given the time that it needs to save."""
    program = f"""
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from drift_pl.core.job_queue import Job, work
list(work([Job("one", [sys.executable, "-S", "-c", {SLEEPER!r}, "saved"], Path("one.log"))], [dict()]))"""
    queue = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while "ready" not in ((tmp_path / "one.log").read_text() if (tmp_path / "one.log").exists() else ""):
        assert queue.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(queue.pid, number)
    queue.communicate(timeout=60)
    assert (tmp_path / "saved").read_text() == "saved"
    assert queue.returncode in (143, 130, -2)
