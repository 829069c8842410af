"""One of two processes dies or fails in the middle of a run: the job ends, nothing is torn, and it goes on.

Part of the campaign of `test_faults.py`. The bound on the time is that of the job's end, whatever the fault.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from campaign.killing import LEARNING, assert_nothing_torn
from campaign.server import lines
from runs import TinyWorld, load
from same_runs import assert_same_run

SECONDS = 30
"""From the fault to the end of all processes, on an idle machine."""
REWARD = """
import os, signal
from pathlib import Path

def judging(images, prompts):
    rank, fault = os.environ.get("LOCAL_RANK", "0"), Path(__file__).parent / "fault"
    if fault.exists() and Path("run/checkpoints/last.ckpt").exists():
        kind, faulty = fault.read_text().split()
        if rank == faulty:
            fault.unlink()
            (Path(__file__).parent / "hit").touch()
            if kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ConnectionError("the reward's server is gone") if kind == "raises" else MemoryError()
    return images.mean((1, 2, 3))
"""
FAULTS = {
    "the first is killed": "killed 0",
    "the second is killed": "killed 1",
    "a reward raises in the first": "raises 0",
    "a reward raises in the second": "raises 1",
    "the second is out of memory": "memory 1",
}


class Job:
    """`fit` with two processes, in a folder of its own."""

    def __init__(self, world: TinyWorld, folder: Path) -> None:
        folder.mkdir()
        (folder / "my_judging.py").write_text(REWARD)
        own = [entry for entry in world.overrides() if not entry.startswith("rewards")]
        self.argv = [
            *(*own, *LEARNING, "rewards=[{name: 'my_judging:judging'}]", "run_dir=run", "trainer.devices=2"),
            *("trainer.iterations=5", "trainer.save_every=2", "trainer.logger=[csv]"),
        ]
        self.folder, self.run_dir = folder, folder / "run"

    def run(self, *more: str, limit_s: float) -> tuple[int, str]:
        """Status and stderr; all processes of the job are ended after the time limit."""
        process = subprocess.Popen(
            [sys.executable, "-m", "drift_pl.fit", *self.argv, *more],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            errors = process.communicate(timeout=limit_s)[1]
            return process.returncode, errors
        except subprocess.TimeoutExpired:
            pytest.fail(f"the job is still there after {limit_s:.0f} s")
        finally:
            with_group_ended(process.pid)


def with_group_ended(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = Job(world, tmp_path_factory.mktemp("ranks") / "whole")
    status, errors = job.run(limit_s=600)
    assert status == 0, errors
    return job.run_dir


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[object, ...]]]:
    rows: list[tuple[object, ...]] = [("fault of one of two processes", "status", "ends after s", "resume")]
    yield rows
    print(f"\n{lines(rows)}")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_one_of_two_processes(
    name: str, world: TinyWorld, whole: Path, tmp_path: Path, table: list[tuple[object, ...]]
) -> None:
    job = Job(world, tmp_path / "job")
    (job.folder / "fault").write_text(FAULTS[name])
    status, errors = job.run(limit_s=600)
    seconds = time.time() - (job.folder / "hit").stat().st_mtime
    assert status != 0
    assert "Traceback" not in errors or name.startswith("a reward")
    assert seconds < SECONDS * slowdown()
    assert_nothing_torn(job.run_dir)
    assert load(job.run_dir)["PromptDataModule"]["iteration"] in (2, 3)
    status, errors = job.run("ckpt_path=auto", limit_s=600)
    assert status == 0, errors
    assert_same_run(job.run_dir, whole)
    table.append((name, status, f"{seconds:.0f}", "same bits"))


def slowdown() -> float:
    """How much longer things take on a machine that is as busy as this one."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
