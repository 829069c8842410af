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


def wait_for(file: Path, process: subprocess.Popen) -> None:
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("thread", "signals", "status"),
    [
        (True, [signal.SIGINT], 130),
        (False, [signal.SIGTERM, signal.SIGTERM], 143),
    ],
)
def test_a_reward_that_hangs_keeps_nobody(thread: bool, signals: list, status: int, tmp_path: Path) -> None:
    """Catches in config/command.py: threads that are waited for at exit. Then the run goes on and ends."""
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
