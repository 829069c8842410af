"""Faults of the disk, of the folder and of a reward's server in the middle of a run: one line, nothing torn, goes on.

The whole campaign: `python -m pytest tests/campaign/test_faults.py tests/campaign/test_rank_faults.py -m "slow or not
slow" -s`.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from campaign import acts
from campaign.killing import LEARNING, assert_nothing_torn
from campaign.server import Ended, Server, lines
from runs import TinyWorld
from same_runs import assert_same_run, files_of
from scoring.test_http import Server as RewardServer
from scoring.test_http import decoded

LENGTH = ("trainer.iterations=6", "evaluation.every=2", "trainer.save_every=2", "trainer.keep_checkpoints=1")
LOGS = "trainer.logger=[csv,tensorboard]"
ACT = "campaign.acts:install"
NOBODY = 65534
ROOM = "No space left on device: make room and run it again; a run resumes from its last checkpoint, which is complete"
Row = Callable[..., None]


@pytest.fixture(scope="module")
def row() -> Iterator[Row]:
    """Notes what came of a fault; the table is printed at the end."""
    table: list[tuple[object, ...]] = [("fault", "status", "checkpoint", "resume")]
    yield lambda *cells: table.append(cells)
    print(f"\n{lines(table)}")


@pytest.fixture(scope="module")
def argv(world: TinyWorld) -> list[str]:
    return [*world.overrides(), *LEARNING, *LENGTH, LOGS]


@pytest.fixture(scope="module")
def whole(server: Server, argv: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six iterations that nothing disturbs."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    assert server.fit(*argv, f"run_dir={run_dir}").status == 0
    return run_dir


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts small disks, if this process may."""
    mounted: list[Path] = []

    def mount(folder: Path, size: str = "4m", inodes: int = 1000) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes},mode=755", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs the right to mount a disk, such as root's in a container with CAP_SYS_ADMIN")
        mounted.append(folder)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=True)
        with suppress(OSError):  # it is where a run has put something beside the disk
            folder.rmdir()


def refusal(ended: Ended) -> str:
    """The one line of a run that was refused, without its beginning."""
    assert ended.status == 2, ended.stderr
    (line,) = ended.errors
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def last(run_dir: Path) -> int | None:
    """Iterations of the last checkpoint, which must be whole; None if there is none."""
    from runs import load

    path = run_dir / "checkpoints" / "last.ckpt"
    return load(run_dir)["PromptDataModule"]["iteration"] if path.exists() else None


def assert_tidy(run_dir: Path) -> None:
    """Nothing torn, no temporary, no lock."""
    assert_nothing_torn(run_dir)
    assert not [name for name in files_of(run_dir) if Path(name).name.startswith(".")]


DISKS: dict[str, tuple[str, int | None, dict[str, int]]] = {
    "full at once": ("fill", 0, {"left": 0}),
    "full before the first checkpoint": ("fill", 1, {"left": 0}),
    "full at a checkpoint": ("fill", 4, {"left": 60_000}),
    "full at the copy last.ckpt": ("fill", 4, {"left": 130_000}),
    "full at an evaluation": ("fill", 4, {"left": 1000}),
    "full in the final evaluation": ("fill", None, {"left": 5000}),
    "no inodes at once": ("use_inodes", 0, {"left": 0}),
    "no inodes at an evaluation": ("use_inodes", 4, {"left": 0}),
    "one inode at a checkpoint": ("use_inodes", 4, {"left": 1}),
}
SHORT = ("full at a checkpoint",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SHORT else pytest.mark.slow) for name in DISKS]
)
def test_a_full_disk(
    name: str, server: Server, argv: list[str], whole: Path, tmp_path: Path, disk: Callable[..., Path], row: Row
) -> None:
    """The run ends with one line, and goes on to the same bits as soon as there is room."""
    act, iteration, options = DISKS[name]
    folder = disk(tmp_path / "disk")
    given = [*argv, f"run_dir={folder / 'run'}"]
    hook = {ACT: {"iteration": iteration, "act": act, "path": str(folder), **options}}
    ended = server.fit(*given, hooks=hook)
    line = refusal(ended)
    assert line.endswith(ROOM)
    assert line.startswith(f"{folder}/run")
    assert_tidy(folder / "run")
    kept = last(folder / "run")
    acts.make_room(folder)
    again = server.fit(*given, "ckpt_path=auto")
    assert again.status == 0, again.stderr
    assert_same_run(folder / "run", whole)
    row(f"disk: {name}", ended.status, f"whole, of iteration {kept}" if kept else "none yet", "same bits")


@pytest.mark.slow
def test_a_full_disk_of_the_checkpoints_alone(
    server: Server, argv: list[str], whole: Path, tmp_path: Path, disk: Callable[..., Path], row: Row
) -> None:
    run_dir = tmp_path / "run"
    checkpoints = disk(run_dir / "checkpoints", size="1m")
    hook = {ACT: {"iteration": 3, "act": "fill", "path": str(checkpoints), "left": 50_000}}
    ended = server.fit(*argv, f"run_dir={run_dir}", hooks=hook)
    line = refusal(ended)
    assert line.startswith(f"{checkpoints}/")
    assert line.endswith(ROOM)
    acts.make_room(checkpoints)
    assert_tidy(run_dir)
    assert last(run_dir) == 2
    assert server.fit(f"ckpt_path={run_dir}").status == 0
    assert_same_run(run_dir, whole)
    row("disk: full under checkpoints/", ended.status, "whole, of iteration 2", "same bits")


@pytest.mark.slow
def test_a_disk_that_becomes_read_only(
    server: Server, argv: list[str], tmp_path: Path, disk: Callable[..., Path], row: Row
) -> None:
    """Without the events of TensorBoard: the system refuses to do that to a disk with a file open to write."""
    without = [*argv, "trainer.logger=[csv]"]
    assert server.fit(*without, f"run_dir={tmp_path / 'whole'}").status == 0
    folder = disk(tmp_path / "disk")
    hook = {ACT: {"iteration": 3, "act": "remount", "path": str(folder), "mode": "ro"}}
    ended = server.fit(*without, f"run_dir={folder / 'run'}", hooks=hook)
    assert refusal(ended).startswith(f"{folder}/run")
    assert "Read-only file system" in ended.stderr
    assert last(folder / "run") == 2
    again = server.fit(f"ckpt_path={folder / 'run'}")  # the lock cannot be taken
    assert "Read-only file system" in refusal(again)
    acts.remount(folder, "rw")
    assert server.fit(f"ckpt_path={folder / 'run'}").status == 0
    assert_same_run(folder / "run", tmp_path / "whole")
    row("folder: read-only disk", ended.status, "whole, of iteration 2", "same bits")


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to become another user")
def test_rights_that_are_lost(
    server: Server, argv: list[str], whole: Path, disk: Callable[..., Path], world: TinyWorld, row: Row
) -> None:
    """Of a folder that the run's user may read but no longer write to."""
    folder = disk(Path("/tmp") / f"drift-pl-rights-{os.getpid()}")  # pytest's folders are closed to other users
    try:
        hook = {ACT: {"iteration": 3, "act": "without_rights", "path": str(folder / "run"), "user": NOBODY}}
        ended = server.fit(*argv, f"run_dir={folder / 'run'}", hooks=hook)
        assert "Permission denied: give a path that you may write to" in refusal(ended)
        assert_nothing_torn(folder / "run")
        assert last(folder / "run") == 2
        assert server.fit(f"ckpt_path={folder / 'run'}").status == 0
        assert_same_run(folder / "run", whole)
    finally:
        shutil.rmtree(folder / "run", ignore_errors=True)
    row("folder: no right to write", ended.status, "whole, of iteration 2", "same bits")


@pytest.mark.parametrize("act", ["remove", pytest.param("rename", marks=pytest.mark.slow)])
def test_a_folder_that_is_gone(
    act: str, server: Server, argv: list[str], whole: Path, tmp_path: Path, row: Row
) -> None:
    """It is not made again: what would be in it is the rest of a run, without its beginning."""
    run_dir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    options = {"to": str(elsewhere)} if act == "rename" else {}
    hook = {ACT: {"iteration": 3, "act": act, "path": str(run_dir), **options}}
    ended = server.fit(*argv, f"run_dir={run_dir}", hooks=hook)
    assert refusal(ended).startswith(f"run_dir={run_dir} is gone")
    assert not run_dir.exists()
    if act == "rename":
        assert_nothing_torn(elsewhere)
        assert last(elsewhere) == 2
        elsewhere.rename(run_dir)
    assert server.fit(*argv, f"run_dir={run_dir}", "ckpt_path=auto").status == 0
    assert_same_run(run_dir, whole)
    row(f"folder: {act}d", ended.status, "whole, of iteration 2" if act == "rename" else "gone", "same bits")


def brightness(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
    """A right answer: a number that depends on the image alone."""
    means = (sum(decoded(text).tobytes()) / (255 * 3 * 16 * 16) for text in content["images"])
    return 200, {"scores": list(means)}, {}


CALLS = 8
"""Requests of the evaluation of the base model, and of three iterations."""
ANSWERS: dict[str, tuple[Callable[[Any], tuple[int, Any, dict[str, str]]], str]] = {
    "too slow": (lambda content: (time.sleep(9), brightness(0, content))[1], "no answer in 2 attempts (ReadTimeout"),
    "status 500": (lambda content: (500, {}, {}), "no answer in 2 attempts (status 500)"),
    "one score too few": (lambda content: (200, {"scores": [1.0] * (len(content["images"]) - 1)}, {}), "scores for"),
    "no JSON": (lambda content: (200, b"<html>", {}), "no JSON"),
    "text for scores": (lambda content: (200, {"scores": ["good"] * len(content["images"])}, {}), "the score 'good'"),
    "no score at all": (lambda content: (200, {"scores": [None] * len(content["images"])}, {}), "scored none of 16"),
}


def served(url: str) -> list[str]:
    """A reward from a server, in place of the world's own."""
    reward = {"name": "http_judge", "args": {"url": url, "attempts": 2, "first_wait_s": 0.05, "timeout_s": 3.0}}
    return [f"rewards={json.dumps([reward])}"]


@pytest.fixture(scope="module")
def port() -> int:
    """One for all runs: the reward's url is a setting that shapes results."""
    server = RewardServer(brightness)
    server.close()
    return int(server.url.rpartition(":")[2].partition("/")[0])


@pytest.fixture(scope="module")
def served_argv(argv: list[str], port: int) -> list[str]:
    return [*(entry for entry in argv if not entry.startswith("rewards")), *served(f"http://127.0.0.1:{port}/score")]


@pytest.fixture(scope="module")
def served_whole(server: Server, served_argv: list[str], port: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("served") / "run"
    with_right_answers(server, served_argv, run_dir, port)
    return run_dir


def with_right_answers(server: Server, argv: list[str], run_dir: Path, port: int, *more: str) -> None:
    answering = RewardServer(brightness, port)
    ended = server.fit(*argv, f"run_dir={run_dir}", *more)
    answering.close()
    assert ended.status == 0, ended.stderr


def test_a_reward_server_that_goes_down(
    server: Server, served_argv: list[str], served_whole: Path, port: int, tmp_path: Path, row: Row
) -> None:
    down = RewardServer(
        lambda number, content: (down.close() if number == CALLS else None, brightness(0, content))[1], port
    )
    ended = server.fit(*served_argv, f"run_dir={tmp_path / 'run'}")
    down.close()
    check_served(ended, "no answer in 2 attempts (ConnectError", tmp_path / "run")
    kept = last(tmp_path / "run")
    with_right_answers(server, served_argv, tmp_path / "run", port, "ckpt_path=auto")
    assert_same_run(tmp_path / "run", served_whole)
    row("reward server: down", ended.status, f"whole, of iteration {kept}", "same bits")


@pytest.mark.slow
@pytest.mark.parametrize("name", ANSWERS)
def test_a_reward_server_that_answers_badly(
    name: str, server: Server, served_argv: list[str], served_whole: Path, port: int, tmp_path: Path, row: Row
) -> None:
    answer, expected = ANSWERS[name]
    bad = RewardServer(lambda number, content: brightness(0, content) if number < CALLS else answer(content), port)
    ended = server.fit(*served_argv, f"run_dir={tmp_path / 'run'}")
    bad.close()
    check_served(ended, expected, tmp_path / "run")
    kept = last(tmp_path / "run")
    with_right_answers(server, served_argv, tmp_path / "run", port, "ckpt_path=auto")
    assert_same_run(tmp_path / "run", served_whole)
    row(f"reward server: {name}", ended.status, f"whole, of iteration {kept}", "same bits")


@pytest.mark.slow
def test_a_reward_server_that_is_slow_changes_nothing(
    server: Server, served_argv: list[str], served_whole: Path, port: int, tmp_path: Path, row: Row
) -> None:
    """Within its time limit, and with a failure now and then that another attempt mends."""

    def answer(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
        time.sleep(0.2)
        return (503, {}, {"Retry-After": "0.1"}) if number % 7 == 3 else brightness(number, content)

    slow = RewardServer(answer, port)
    ended = server.fit(*served_argv, f"run_dir={tmp_path / 'run'}")
    slow.close()
    assert ended.status == 0, ended.stderr
    assert_same_run(tmp_path / "run", served_whole)
    row("reward server: slow, fails at times", ended.status, "whole, of iteration 6", "not needed: same bits")


def check_served(ended: Ended, expected: str, run_dir: Path) -> None:
    line = refusal(ended)
    assert "127.0.0.1" in line or "reward" in line
    assert expected in line
    assert_tidy(run_dir)
    assert last(run_dir) in (2, 3)
