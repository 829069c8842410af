"""The lock of a folder: who holds it is named, and who is gone holds nothing."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drift_pl.core import lock
from drift_pl.core.errors import UserError
from drift_pl.core.lock import JOB, NAME, STALE, hold
from drift_pl.core.mutex import alone_in

HOLD = (
    "import sys, time; from pathlib import Path; from drift_pl.core.lock import hold\n"
    "with hold(Path(sys.argv[1]), 'run_dir'): print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds `tmp_path / "run"`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught, hold(folder, "run_dir"):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_of(folder: Path, age: float = 0.0, **changes: Any) -> None:
    """Another holder's lock, as it stands on the disk."""
    (folder / NAME).write_text(json.dumps(lock._me() | {"id": "another's"} | changes))
    os.utime(folder / NAME, (time.time() - age,) * 2)


def test_a_living_process_is_named_with_its_host(tmp_path: Path, holder: subprocess.Popen) -> None:
    message = refusal(tmp_path / "run")
    for part in (f"run_dir={tmp_path / 'run'} is in use", f"process {holder.pid}", os.uname().nodename, "-2"):
        assert part in message
    os.utime(tmp_path / "run" / NAME, (0, 0))  # on its own host, the process decides
    refusal(tmp_path / "run")


@pytest.mark.parametrize("end", [signal.SIGKILL, None])
def test_a_dead_process_holds_nothing(tmp_path: Path, holder: subprocess.Popen, end: int | None) -> None:
    """Also before anybody has waited for it."""
    os.kill(holder.pid, end or signal.SIGTERM)
    deadline = time.monotonic() + 30
    while True:
        try:
            with hold(tmp_path / "run", "run_dir"):
                assert json.loads((tmp_path / "run" / NAME).read_text())["pid"] == os.getpid()
            return
        except UserError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_number_that_was_given_to_another_process_is_not_the_holder(tmp_path: Path) -> None:
    as_of(tmp_path, started="17")
    with hold(tmp_path, "run_dir"):
        pass


def test_a_holder_elsewhere_is_gone_after_sixty_seconds(tmp_path: Path) -> None:
    for elsewhere in ({"host": "node7"}, {"namespace": "pid:[1]"}):
        as_of(tmp_path, age=STALE - 30, **elsewhere)
        assert "60 s without a sign of life" in refusal(tmp_path)
        as_of(tmp_path, age=STALE + 5, **elsewhere)
        with hold(tmp_path, "run_dir"):
            pass


def test_a_job_that_was_started_again_takes_over_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB, "4711")
    as_of(tmp_path, host="node7", job="4712")
    refusal(tmp_path)
    as_of(tmp_path, host="node7", job="4711")
    with hold(tmp_path, "run_dir"):
        pass
    as_of(tmp_path, job="4711")  # two steps of one job on one host: this process itself is alive
    refusal(tmp_path)


def test_a_half_written_lock_counts_until_it_is_old(tmp_path: Path) -> None:
    (tmp_path / NAME).touch()
    refusal(tmp_path)
    os.utime(tmp_path / NAME, (0, 0))
    with hold(tmp_path, "run_dir"):
        pass


def test_a_kill_that_hits_its_writing_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody gets the folder for a minute. Found by tests/campaign/test_kills.py.

    Catches in core/lock.py: a lock that is made first, and filled then.
    """
    held = ""

    def killed(source: Path, target: Path) -> None:
        nonlocal held
        held = source.read_text()
        assert not target.exists()
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", killed)
        with pytest.raises(MemoryError), hold(tmp_path, "run_dir"):
            pass
    assert json.loads(held)["pid"] == os.getpid()
    with hold(tmp_path, "run_dir"):
        pass


def test_a_file_system_without_links_has_a_lock_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with hold(tmp_path, "run_dir"):
        assert [path.name for path in tmp_path.iterdir()] == [NAME]
        assert "is in use by process" in refusal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_is_refreshed_and_its_loss_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "REFRESH", 0.02)
    with hold(tmp_path, "run_dir") as held:
        os.utime(tmp_path / NAME, (0, 0))
        wait_until(lambda: (tmp_path / NAME).stat().st_mtime > 0)
        held.check()
        (tmp_path / NAME).write_text('{"id": "another\'s"}')
        wait_until(lambda: held._lost)
        with pytest.raises(UserError, match="taken over"):
            held.check()
    assert (tmp_path / NAME).exists(), "it is the other's now"


@pytest.mark.parametrize("end", ["removed", "renamed", "unlocked"])
def test_a_folder_that_is_gone_is_noticed(tmp_path: Path, end: str) -> None:
    """What fails because of that says so, and nothing puts the folder back.

    Catches in core/lock.py: a missing lock that counts as held; the consequence told in place of its reason.
    """
    folder = tmp_path / "run"

    def lose() -> None:
        with hold(folder, "run_dir") as held:
            held.check()
            if end == "unlocked":
                (folder / NAME).unlink()
            else:
                shutil.rmtree(folder) if end == "removed" else folder.rename(tmp_path / "elsewhere")
            with pytest.raises(UserError, match="is gone"):
                held.check()
            raise FileNotFoundError("metrics.csv")

    with pytest.raises(UserError, match=f"^run_dir={folder} is gone, or .lock in it: removed"):
        lose()
    assert not folder.exists()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with hold(tmp_path / "a" / "b", "run_dir"):
        assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [NAME]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    with hold(tmp_path / "kept", "run_dir"):
        pass
    assert list((tmp_path / "kept").iterdir()) == []


def test_of_many_that_start_at_once_one_gets_it(tmp_path: Path) -> None:
    """Also where they all find the lock of one that is gone."""
    as_of(tmp_path, started="17")
    until_the_others_ended = HOLD.replace("time.sleep(60)", "sys.stdin.read()")
    start = [sys.executable, "-c", until_the_others_ended, tmp_path]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    several = [subprocess.Popen(start, text=True, **streams) for _ in range(6)]
    try:
        wait_until(lambda: sum(process.poll() is not None for process in several) >= 5, seconds=60)
        assert sorted(process.communicate()[0] for process in several) == [""] * 5 + ["held\n"]
    finally:
        for process in several:
            process.kill()


def test_they_take_over_one_after_the_other(tmp_path: Path) -> None:
    """Between reading the lock of one that is gone and putting one's own there, nobody else does.

    Catches in core/lock.py: a third process takes the lock while the second one, which has moved that of the first by
    mistake, is about to put it back; two hold the folder then.
    """
    got = threading.Event()

    def take() -> None:
        with hold(tmp_path, "run_dir"):
            got.set()

    with alone_in(tmp_path):
        taker = threading.Thread(target=take, daemon=True)
        taker.start()
        assert not got.wait(0.3)
    assert got.wait(20)
    taker.join()


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
