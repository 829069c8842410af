"""Runs of several processes, one of which fails, hangs or dies at a given moment."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runs import TinyWorld

REWARD = '''
"""Scores by brightness. At the call that the file $ACT names, the process that it names does what it says.

It waits until both have come there: the other may still be at the end of the iteration before, and would undo that one.
"""

import os
import signal
import time
from pathlib import Path

calls = 0

def acting(images, prompts):
    global calls
    calls += 1
    order = Path(os.environ.get("ACT", "none"))
    if order.exists():
        who, when, what = order.read_text().split()
        ranks = (os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ)
        rank = next(ranks, "0")
        if calls == int(when):
            order.with_name(f"there-{rank}").touch()
        if rank == who and calls == int(when):
            while not all(order.with_name(f"there-{each}").exists() for each in "01"):
                time.sleep(0.01)
            order.with_name("acted").touch()
            if what == "fails":
                raise ValueError("out of paint")
            if what == "hangs":
                time.sleep(600)
            os.kill(os.getpid(), getattr(signal, what))
    return images.mean((1, 2, 3))
'''
LONGEST_S = 400
"""For a whole run, on a machine that does other things besides."""
SECOND_ITERATION = 3
"""The reward's call in it. The first call measures the base model, on one test prompt per process."""


@dataclass(frozen=True)
class Job:
    """How to start a run of two processes, and make one of them act.

    Attributes:
        launcher: what stands before `-m drift_pl.fit`.
    """

    world: TinyWorld
    folder: Path
    launcher: tuple[str, ...] = (sys.executable,)

    @classmethod
    def create(cls, world: TinyWorld, folder: Path, launcher: Sequence[str] = (sys.executable,)) -> "Job":
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "my_acting_reward.py").write_text(REWARD)
        return cls(world, folder, tuple(launcher))

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def command(self, *overrides: str) -> list[str]:
        argv = [entry for entry in self.world.overrides() if not entry.startswith("rewards")]
        argv += ["rewards=[{name: 'my_acting_reward:acting'}]", "policy.guidance_scale=1", "evaluation.every=0"]
        argv += ["objective.learning_rate=0.01", "objective.ema_decay=0.5", "trainer.devices=2", "trainer.iterations=3"]
        argv += ["trainer.save_every=3", f"run_dir={self.run_dir}"]
        return [*self.launcher, "-m", "drift_pl.fit", *argv, *overrides]

    def environment(self, act: str = "", **variables: str) -> dict[str, str]:
        """Args:
        act: rank, call of the reward, and what the process does then.
        """
        order = self.folder / "order"
        order.write_text(act)
        for name in ("acted", "there-0", "there-1"):
            (self.folder / name).unlink(missing_ok=True)
        own = {"ACT": str(order)} if act else {}
        path = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "PYTHONPATH": path, **own, **variables}

    @contextmanager
    def started(self, act: str, *overrides: str, **variables: str) -> Iterator[subprocess.Popen]:
        """The run, when one of its processes has acted; nothing of it is left at the end."""
        process = subprocess.Popen(
            self.command(*overrides),
            env=self.environment(act, **variables),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            self.wait_until_acted(process)
            yield process
        finally:
            end_session(process)

    def wait_until_acted(self, process: subprocess.Popen) -> None:
        begin = time.monotonic()
        while not (self.folder / "acted").exists():
            assert process.poll() is None, process.communicate()[1][-2000:]
            assert time.monotonic() - begin < LONGEST_S
            time.sleep(0.05)

    def finish(self, *overrides: str, **variables: str) -> None:
        """Runs to the end, undisturbed."""
        done = subprocess.run(
            self.command(*overrides),
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
        )
        assert done.returncode == 0, done.stderr[-3000:]


def end_session(process: subprocess.Popen) -> None:
    """Kills what a process has started, and itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def errors_of(process: subprocess.Popen, within_s: float = 120.0) -> list[str]:
    """What it has printed by its end, without warnings; it must come long before collectives give up."""
    errors = process.communicate(timeout=within_s)[1]
    assert "Traceback" not in errors, errors[-3000:]
    return [line for line in errors.splitlines() if line.startswith(("error", "stopped"))]
