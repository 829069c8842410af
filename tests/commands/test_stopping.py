"""Signals: the exit status says what happened, and a reward that hangs keeps nobody."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import TinyWorld, load

REWARD = """
import time
from pathlib import Path

def hanging(images, prompts):
    Path("called").touch()
    time.sleep(0.2 if Path("quick").exists() else 600)
    return images.mean((1, 2, 3))
"""


HANGING_THREAD = """
import threading, time
from drift_pl.config.command import run_command

def main(argv):
    threading.Thread(target=time.sleep, args=(600,)).start()
    raise KeyboardInterrupt

raise SystemExit(run_command(main))
"""
TERMINATED_TWICE = """
import os, signal
from drift_pl.config.command import leaving_at_second_sigterm

with leaving_at_second_sigterm():
    os.kill(os.getpid(), signal.SIGTERM)
    print("goes on", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("goes on for ever")
"""


def wait_for(file: Path, process: subprocess.Popen) -> None:
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("program", "status", "out", "error"),
    [(HANGING_THREAD, 130, "", "interrupted\n"), (TERMINATED_TWICE, 143, "goes on\n", "terminated at once\n")],
)
def test_a_command_ends_at_once(program: str, status: int, out: str, error: str) -> None:
    """What the slow test below sees of a whole run. Fails at its time limit if the thread is waited for.

    Catches in config/command.py: threads that are waited for at exit; the second SIGTERM ignored; the first one taken
    for the second.
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("thread", "signals", "status"),
    [
        (True, [signal.SIGINT], 130),
        (False, [signal.SIGTERM, signal.SIGTERM], 143),
    ],
)
def test_a_reward_that_hangs_keeps_nobody(thread: bool, signals: list, status: int, tmp_path: Path) -> None:
    """Then the run goes on and ends.

    Catches in config/command.py: threads that are waited for at exit.
    """
    world = TinyWorld.create(tmp_path / "world")
    (tmp_path / "my_hanging_reward.py").write_text(REWARD)
    argv = [entry for entry in world.overrides() if not entry.startswith("rewards")]
    argv += ["rewards=[{name: 'my_hanging_reward:hanging'}]", "trainer.iterations=2", "trainer.save_every=1"]
    argv += ["run_dir=run", "trainer.judge_groups=1", f"trainer.judge_thread={str(thread).lower()}"]
    command = [sys.executable, "-m", "drift_pl.fit", *argv]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    (tmp_path / "quick").touch()
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt", process)
    (tmp_path / "quick").unlink()
    (tmp_path / "called").unlink(missing_ok=True)
    wait_for(tmp_path / "called", process)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.5)
    begin = time.monotonic()
    errors = process.communicate(timeout=60)[1]
    assert time.monotonic() - begin < 20
    assert process.returncode == status
    assert "Traceback" not in errors
    (tmp_path / "quick").touch()
    subprocess.run([*command, "ckpt_path=last"], cwd=tmp_path, env=environment, check=True)
    assert load(tmp_path / "run")["PromptDataModule"]["iteration"] == 2
