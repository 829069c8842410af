"""Runs that are killed again and again, and gone on with as a user would."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from campaign.server import Ended, Server
from PIL import Image
from runs import TinyWorld, load_checkpoint
from same_runs import assert_same_run

Moment = dict[str, Any]
KILLED = -9
LEARNING = ("objective.learning_rate=0.01", "objective.ema_decay=0.5")
SETTINGS: dict[str, tuple[str, ...]] = {
    "adapter": (
        *("trainer.iterations=6", "evaluation.every=2", "trainer.save_every=2"),
        "trainer.logger=[csv,tensorboard]",
    ),
    "network": (
        *("policy.tuning=full", "trainer.keep_boundary=false", "objective.kl_weight=0.1"),
        *("objective.learning_rate=0.001", "trainer.iterations=4", "trainer.save_every=1"),
        *("trainer.keep_checkpoints=-1", "trainer.logger=[csv]", "evaluation.every=1"),
        *("evaluation.extra=[rke,fid]", "evaluation.rewards=[{name: jpeg_compressibility}]"),
    ),
    "forward": (
        *("objective.loss=nft", "trainer.iterations=5", "trainer.save_every=3", "trainer.keep_checkpoints=1"),
        *("evaluation.every=0", "trainer.logger=[tensorboard]", "trainer.progress=true"),
    ),
}
"""What differs between the runs: what is trained, what is kept, what is measured, where it is logged."""
FOREIGN_SEED = 7
FOREIGN = (f"seed={FOREIGN_SEED}", "sampler.eval_steps=1", "prompts.group_size=3")
"""Of another run, which was killed in the same folder before its first checkpoint."""
SHORT = ("trainer.iterations=4", *SETTINGS["adapter"][1:])


@dataclass(frozen=True)
class Whole:
    """A run that nobody has interrupted.

    Attributes:
        seconds: from its start to its end.
        files, calls: that it has opened to write, and that have changed its folder.
    """

    name: str
    argv: list[str]
    run_dir: Path
    seconds: float
    files: int
    calls: int

    @classmethod
    def of(cls, name: str, settings: tuple[str, ...], server: Server, world: TinyWorld, folder: Path) -> "Whole":
        """Runs it, with a hook that counts."""
        argv, run_dir, notes = [*world.overrides(), *LEARNING, *settings], folder / name, folder / f"{name}.notes"
        hooks = {"campaign.dying:count": {"notes": str(notes), "root": str(run_dir)}}
        ended = server.fit(*argv, f"run_dir={run_dir}", hooks=hooks)
        assert ended.status == 0, ended.stderr
        return cls(name, argv, run_dir, ended.seconds, *map(int, notes.read_text().split()))

    @property
    def looks(self) -> bool:
        return "evaluation.every=0" not in self.argv


@dataclass
class Killed:
    """A run that is killed and goes on until it is complete.

    Attributes:
        kills: where each has hit it, and what it was aimed at.
        failure: how it differs from the uninterrupted run in the end.
    """

    whole: Whole
    run_dir: Path
    kills: list[tuple[str, str]] = field(default_factory=list)
    starts: int = 0
    failure: str = ""

    def takes_over(self, server: Server) -> None:
        """Begins in a folder with the remains of another run, of which nothing was trained."""
        moment = {"in": "call", "name": "checkpoints/", "number": 1}
        hooks = {"campaign.dying:install": {**self._noting, "moment": moment}}
        ended = server.fit(*self.whole.argv, *FOREIGN, f"run_dir={self.run_dir}", hooks=hooks)
        assert ended.status == KILLED, ended.stderr
        assert (self.run_dir / "evaluation" / "test.json").exists()
        self.kills.append(("another run, before its first checkpoint", "call"))

    def go_through(self, server: Server, numbers: random.Random, kills: int) -> None:
        """Is killed at random moments, and then completed."""
        goes_on = True
        if numbers.random() < 0.2:
            self.takes_over(server)
        while goes_on and len(self.kills) < kills:
            goes_on = self.attempt(server, draw(numbers, self.whole, self.run_dir), numbers.random() < 0.5)
        if goes_on:
            assert not self.attempt(server, None, numbers.random() < 0.5)

    def attempt(self, server: Server, moment: Moment | None, by_folder: bool) -> bool:
        """Starts the run or goes on with it; False once it is complete.

        Args:
            by_folder: go on by `ckpt_path=RUN` and not by the first command line with `ckpt_path=auto`.
        """
        notes, after_s = Path(self._noting["notes"]), (moment or {}).get("after_s")
        hooks = {"campaign.dying:install": {**self._noting, "moment": moment if after_s is None else None}}
        ended = server.fit(*self._argv(by_folder), hooks=hooks, kill_after_s=after_s)
        self.starts += 1
        if ended.status == KILLED:
            note = notes.read_text().strip("\0 ") if notes.exists() else "start"
            self.kills.append((shown(note, self.run_dir), "time" if after_s is not None else (moment or {})["in"]))
            assert_nothing_torn(self.run_dir)
            return True
        if not self._is_complete(ended):
            raise AssertionError(f"{self.story()}: status {ended.status}\n{ended.stderr}")
        return False

    @property
    def _noting(self) -> dict[str, str]:
        return {"notes": str(self.run_dir.with_suffix(".notes")), "root": str(self.run_dir)}

    def _argv(self, by_folder: bool) -> list[str]:
        config = self.run_dir / "config.yaml"
        if by_folder and config.exists() and f"seed: {FOREIGN_SEED}\n" not in config.read_text():
            return [f"ckpt_path={self.run_dir}"]
        return [*self.whole.argv, f"run_dir={self.run_dir}", *(["ckpt_path=auto"] if self.starts else [])]

    def _is_complete(self, ended: Ended) -> bool:
        """It has just ended well; or it had before the last kill, and says so to who gives its folder."""
        had = (self.run_dir / "summary.json").exists() and "error: ckpt_path: this run already has" in ended.stderr
        return (ended.status == 0 and not ended.errors) or (ended.status == 2 and had)

    def check(self, server: Server) -> None:
        """The complete run is the uninterrupted one, and says that nothing is left to do."""
        try:
            assert_same_run(self.run_dir, self.whole.run_dir)
        except AssertionError as error:
            raise AssertionError(f"{self.story()}: {error}") from error
        ended = server.fit(*self.whole.argv, f"run_dir={self.run_dir}", "ckpt_path=auto")
        assert "this run is complete" in ended.stdout, self.story()

    def story(self) -> str:
        return f"{self.whole.name} in {self.run_dir}, killed " + ", ".join(place for place, _ in self.kills)


def draw(numbers: random.Random, whole: Whole, run_dir: Path) -> Moment:
    """A moment for the next kill: a third while something is written, a tenth in evaluations, the others anywhere."""
    kind = numbers.random()
    if kind < 0.4:
        if kind < 0.2:
            size = int(10 ** numbers.uniform(0, 5.5))
            return {"in": "file", "number": numbers.randint(1, max(whole.files // 2, 1)), "bytes": size}
        return {"in": "call", "number": numbers.randint(1, whole.calls // 2)}
    if kind < 0.55:
        parts = ["look", "final"] if (run_dir / "evaluation" / "test.json").exists() else ["base"]
        part = numbers.choice(parts if whole.looks else [parts[-1]])
        return {"in": part, "number": numbers.randint(1, 2), "delay_s": numbers.uniform(0, 0.05)}
    return {"after_s": numbers.uniform(0, whole.seconds)}


def shown(note: str, run_dir: Path) -> str:
    """A note for a table: paths from the run's folder, numbers and random names left out."""
    note = note.replace(f"{run_dir}/", "").replace(str(run_dir), ".")
    note = re.sub(r"\.(\S+?)\.\d+-[0-9a-f]{8}\.tmp", r"\1 (temporary)", note)
    note = re.sub(r"events\.out\.tfevents\S*", "events", note)
    note = re.sub(r"\.lock\.[0-9a-f]{32}", ".lock (aside)", note)
    return re.sub(r"\d{6}", "N", re.sub(r"-[0-9a-f]{16}", "", note))


def assert_nothing_torn(run_dir: Path) -> None:
    """Every file that has its name is whole, whenever the process was killed."""
    for path in run_dir.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            _read(path)
        except Exception as error:
            raise AssertionError(f"{path} is torn: {error}") from error


def _read(path: Path) -> Any:
    match path.suffix:
        case ".ckpt":
            return load_checkpoint(path)
        case ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        case ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        case ".yaml":
            return yaml.safe_load(path.read_text(encoding="utf-8"))
        case ".png":
            return Image.open(path).load()
        case ".npz":
            with np.load(path) as arrays:
                return dict(arrays)
    return None


def campaign(
    server: Server, wholes: list[Whole], folder: Path, kills: int, seed: int, per_run: int = 5
) -> Iterator[Killed]:
    """Kills runs, one after the other, until so many kills have hit; yields each when it is complete and checked."""
    numbers, hit, number = random.Random(seed), 0, 0
    while hit < kills and number < kills:  # runs that fail at once are not killed
        run = Killed(wholes[number % len(wholes)], folder / f"run{number}")
        try:
            run.go_through(server, numbers, min(per_run, kills - hit))
            run.check(server)
        except AssertionError as error:
            run.failure = str(error)
        hit, number = hit + len(run.kills), number + 1
        yield run


def table(runs: list[Killed]) -> list[tuple[object, ...]]:
    """Where kills have hit, and how many, by what they were aimed at."""
    kinds = ("file", "call", "base", "look", "final", "time")
    counts = Counter(kill for run in runs for kill in run.kills)
    places = sorted({place for place, _ in counts})
    body = [(place, *(counts[place, kind] or "" for kind in kinds)) for place in places]
    total = ("all", *(sum(counts[place, kind] for place in places) for kind in kinds))
    return [("where it was", *kinds), *body, total]
