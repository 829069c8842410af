"""Where bad inputs are tried: a tiny world, a finished run, a working folder that is compared before and after."""

import contextlib
import hashlib
import importlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
from campaign.inputs.rows import Row, make
from runs import TinyWorld

from drift_pl import evaluate, export, fit, generate, pareto, report

COMMANDS: dict[str, Callable[[list[str]], int]] = {
    **{"fit": fit.main, "resume": fit.main, "evaluate": evaluate.main, "generate": generate.main},
    **{"export": export.main, "pareto": pareto.main, "report": report.main},
}
LIMIT_S = 60
SHORT = (
    *("trainer.iterations=1", "evaluation.max_prompts=1", "prompts.per_iteration=2", "prompts.group_size=4"),
    *("objective.updates=1", "run_dir=new"),
)
Listing = dict[str, str]
"""Path -> what is there."""


class Ended(NamedTuple):
    """How a command ended, and what it changed: path -> what it was and is."""

    status: int
    out: str
    err: str
    changes: dict[str, tuple[str | None, str | None]]


class TooLong(BaseException):
    """The time limit; not an `Exception`, so that no command takes it for one of its own."""


@dataclass(frozen=True)
class Stage:
    """What all rows share.

    Attributes:
        world: models and prompts; WORLD in a row's line.
        run: a finished run of two iterations with its evaluations; RUN.
        other: another one, of other settings; OTHER.
        state: the user's state folder.
    """

    world: TinyWorld
    run: Path
    other: Path
    state: Path

    @classmethod
    def create(cls, root: Path) -> "Stage":
        (root / "world").mkdir()
        world = TinyWorld.create(root / "world")
        (root / "world" / "train.txt").write_text("a red dot\na red bar\na big dot\nany dot\n")  # no word is unknown
        for name, more in (("run", ()), ("other", ("policy.lora.rank=4", "seed=1"))):
            every = ("evaluation.every=1", "trainer.save_every=1", "trainer.keep_checkpoints=-1")
            world.fit(root / name, "trainer.iterations=2", *every, *more)
        return cls(world, root / "run", root / "other", Path(os.environ["XDG_STATE_HOME"]))

    @property
    def sources(self) -> dict[str, Path]:
        """Folders that a row may take a changed copy of."""
        models = ("pipeline", "preference", "shaping", "evaluation", "lpips")
        return {"run": self.run, "other": self.other, **{name: self.world.root / name for name in models}}

    def argv(self, line: str) -> tuple[str, list[str]]:
        """The command and its arguments."""
        places = {"WORLD": self.world.root, "RUN": self.run, "OTHER": self.other}
        for word, place in places.items():
            line = line.replace(word, str(place))
        command, *argv = shlex.split(line)
        given = [*self.world.overrides(), *SHORT] if command == "fit" else []
        return command, [*given, *argv]

    def listing(self, here: Path) -> Listing:
        """Everything that a command may have touched."""
        work = {str(path.relative_to(here)): _content(path) for path in sorted(here.rglob("*"))}
        shared = (path for root in (self.world.root, self.run, self.other, self.state) for path in root.rglob("*"))
        return work | {str(path): _touched(path) for path in shared}

    def try_row(self, row: Row, here: Path, capture: pytest.CaptureFixture[str]) -> Ended:
        """Makes a row's files in the empty folder `here` and calls its command there."""
        make(here, row.files, self.sources)
        command, argv = self.argv(row.line)
        with in_folder(here, row.env):
            return self.call(command, argv, here, capture)

    def call(self, command: str, argv: list[str], here: Path, capture: pytest.CaptureFixture[str]) -> Ended:
        before = self.listing(here)
        capture.readouterr()
        with time_limit(LIMIT_S):
            status = COMMANDS[command](argv)
        out, err = capture.readouterr()
        after = self.listing(here)
        names = sorted(name for name in before | after if before.get(name) != after.get(name))
        return Ended(status, out, err, {name: (before.get(name), after.get(name)) for name in names})


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if path.is_file() and path.stat().st_size < 2**24:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return _touched(path)


def _touched(path: Path) -> str:
    """Size and time of a file; of a folder only that it is one, since probes come and go."""
    about = path.lstat()
    return "folder" if path.is_dir() else f"{about.st_size} {about.st_mtime_ns}"


@contextlib.contextmanager
def in_folder(here: Path, env: Mapping[str, str]) -> Iterator[None]:
    """As in a process of its own that was started in `here`: modules of that folder can be imported, and are gone
    afterwards; the environment is as it was before."""
    environment, path, modules = dict(os.environ), list(sys.path), set(sys.modules)
    was = Path.cwd()
    os.chdir(here)
    os.environ.update(env)
    sys.path.insert(0, str(here))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        os.chdir(was)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(here)):
                del sys.modules[name]


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong(f"not done after {seconds} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
