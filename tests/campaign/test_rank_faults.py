"""One of two processes dies or fails in the middle of a run: the job ends, nothing is torn, and it goes on.

The whole campaign: `python -m pytest tests/campaign/test_rank_faults.py -m slow -s`. What each process says and saves:
`tests/equivalence/test_failing_processes.py`.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign.killing import assert_nothing_torn
from campaign.server import lines
from jobs import Job
from runs import TinyWorld, load
from same_runs import assert_same_run

SECONDS = 30
"""From the fault to the end of all processes, on an idle machine."""
SETTINGS = ("trainer.iterations=4", "trainer.save_every=2", "trainer.logger=[csv]")
THIRD_ITERATION = 4
"""The reward's call in it: the first one measures the base model."""
FAULTS = {
    "the first is killed": ("0", "SIGKILL", -9),
    "the second is killed": ("1", "SIGKILL", 2),
    "a reward fails in the first": ("0", "fails", 2),
    "a reward fails in the second": ("1", "fails", 2),
}
"""Rank, what it does, and the status of the job."""


@pytest.fixture(scope="module")
def whole(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = Job.create(world, tmp_path_factory.mktemp("ranks"))
    job.finish(*SETTINGS)
    return job.run_dir


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[object, ...]]]:
    rows: list[tuple[object, ...]] = [("fault of one of two processes", "status", "ends after s", "saved", "resume")]
    yield rows
    print(f"\n{lines(rows)}")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_one_of_two_processes(
    name: str, world: TinyWorld, whole: Path, tmp_path: Path, table: list[tuple[object, ...]]
) -> None:
    rank, what, status = FAULTS[name]
    job = Job.create(world, tmp_path)
    with job.started(f"{rank} {THIRD_ITERATION} {what}", *SETTINGS) as process:
        begin = time.monotonic()
        errors = process.communicate(timeout=SECONDS * slowdown())[1]
    seconds = time.monotonic() - begin
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    assert len([line for line in errors.splitlines() if line.startswith("error: ")]) == 1
    assert_nothing_torn(job.run_dir)
    saved = load(job.run_dir)["PromptDataModule"]["iteration"]
    assert saved == 2
    job.finish(*SETTINGS, "ckpt_path=auto")
    assert_same_run(job.run_dir, whole)
    table.append((name, process.returncode, f"{seconds:.0f}", f"iteration {saved}", "same bits"))


def slowdown() -> float:
    """How much longer things take on a machine that is as busy as this one."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
