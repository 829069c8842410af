"""Hooks that run in the process of a run: it notes where it is, and kills itself at a chosen moment.

Only the operating system's and Python's own calls are watched to see what is written, so that any file counts, whoever
writes it and however.
"""

import builtins
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}
PARTS = {"on_train_start": "base", "on_train_batch_end": "look", "on_train_end": "final"}
"""Callbacks of the evaluation, and what each of them measures."""


class Notes:
    """Where a run is, in a file outside its folder: what it holds is known after a kill."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC)
        self.write("start")

    def write(self, text: str) -> None:
        os.pwrite(self._file, text.encode().ljust(300), 0)

    def die(self, text: str = "") -> None:
        if text:
            self.write(text)
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()  # the signal may take a moment, in which nothing may be written


def install(notes: str, root: str, moment: dict[str, Any] | None) -> None:
    """Sets what a run needs to note where it is, and to die at a moment.

    Args:
        notes: file for the notes.
        root: the run's folder.
        moment: `{"in": "file", "number": n, "bytes": b}`: in the n-th file that is opened to be written, after b bytes;
            `{"in": "call", "number": n}`: before the n-th change of the folder (a file made, synced, renamed, removed);
            with `"name": text`, only files and changes count whose path has it;
            `{"in": "base" | "look" | "final", "number": n, "delay_s": s}`: in an evaluation, s seconds after it has
            begun with its n-th prompt. None: never.
    """
    moment = moment or {"in": ""}
    note = Notes(notes)
    _note_parts(note)
    if moment["in"] == "file":
        _die_in_file(note, root, **moment)
    elif moment["in"] == "call":
        _die_before_call(note, root, **moment)
    elif moment["in"] in PARTS.values():
        _die_in_evaluation(note, **moment)


def count(notes: str, root: str) -> None:
    """Sets what counts files and calls, for the numbers of later moments, and writes the counts as a note."""
    note, counts = Notes(notes), {"file": 0, "call": 0}

    def add(name: str) -> None:
        counts[name] += 1
        note.write(f"{counts['file']} {counts['call']}")

    _watch_opened(root, lambda *_: add("file"))
    _watch_calls(root, lambda _: add("call"))


def _note_parts(note: Notes) -> None:
    from drift_pl.training.callbacks.evaluation import HeldOutEvaluation
    from drift_pl.training.checkpointing import AtomicCheckpointIO
    from drift_pl.training.module import DriftModule

    watched = [(HeldOutEvaluation, name, f"evaluation: {part}") for name, part in PARTS.items()]
    watched += [(AtomicCheckpointIO, "save_checkpoint", "checkpoint"), (DriftModule, "training_step", "iteration")]
    for kind, name, text in watched:
        _wrap(kind, name, lambda text=text: _noted(note, text))


@contextmanager
def _noted(note: Notes, text: str) -> Iterator[None]:
    note.write(text)
    yield
    note.write(f"after {text}")


def _wrap(place: Any, name: str, around: Callable[..., Any]) -> None:
    original = getattr(place, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        with around():
            return original(*args, **options)

    setattr(place, name, wrapped)


def _die_in_evaluation(note: Notes, number: int, delay_s: float, **where: str) -> None:
    from drift_pl.evaluation import evaluator
    from drift_pl.training.callbacks.evaluation import HeldOutEvaluation

    part, within, sampled = where["in"], [False], [0]

    @contextmanager
    def inside() -> Iterator[None]:
        within[0] = True
        yield
        within[0] = False

    @contextmanager
    def sampling() -> Iterator[None]:
        sampled[0] += within[0]
        if within[0] and sampled[0] == number:
            threading.Timer(delay_s, note.die).start()
        yield

    _wrap(HeldOutEvaluation, next(name for name, one in PARTS.items() if one == part), inside)
    _wrap(evaluator, "sample_images", sampling)


def _die_in_file(note: Notes, root: str, number: int, name: str = "", **moment: Any) -> None:
    opened = [0]

    def look(path: str, mode: str, rest: dict[str, Any]) -> Any:
        opened[0] += name in path
        return _DyingFile.open(path, mode, note, moment["bytes"], **rest) if opened[0] == number else None

    _watch_opened(root, look)


def _watch_opened(root: str, look: Callable[[str, str, dict[str, Any]], Any]) -> None:
    """Calls `look` for each file below `root` that Python opens to write; what it returns is used in its place."""
    original = io.open

    def watched(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if set(mode) & set("wax+") and (path := _below(root, file)):
            rest = dict(zip(("buffering", "encoding", "errors", "newline"), args, strict=False)) | options
            if (found := look(path, mode, rest)) is not None:
                return found
        return original(file, mode, *args, **options)

    io.open = builtins.open = watched  # type: ignore[assignment]


class _DyingFile(io.FileIO):
    """Takes this many bytes; the process dies with the next one, or at the end of the file."""

    def __init__(self, path: str, mode: str, note: Notes, size: int) -> None:
        super().__init__(path, mode.replace("b", "").replace("t", ""))
        self._note, self._left, self._text = note, size, f"in file: {path}"

    @classmethod
    def open(cls, path: str, mode: str, note: Notes, size: int, **rest: Any) -> Any:
        raw = cls(path, mode, note, size)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, rest.get("encoding") or "utf-8", rest.get("errors"), rest.get("newline"))

    def write(self, data: Any) -> int:
        data = memoryview(data).cast("B")
        if len(data) > self._left:
            super().write(data[: self._left])
            self._note.die(self._text)
        self._left -= len(data)
        return super().write(data) or 0

    def close(self) -> None:
        if not self.closed:
            self._note.die(self._text)


def _die_before_call(note: Notes, root: str, number: int, name: str = "", **moment: Any) -> None:
    seen = [0]

    def look(text: str) -> None:
        seen[0] += name in text
        if seen[0] == number:
            note.die(f"before call: {text}")

    _watch_calls(root, look)


def _watch_calls(root: str, look: Callable[[str], None]) -> None:
    """Calls `look` before each system call that changes something below `root`, or opens it to sync it."""

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":  # without a mode it is os.open: for a lock, a new file, or to sync
            path, mode, flags = args
            changes = mode is None or (flags or 0) & WRITING
        else:
            changes = event in CHANGES
            path = args[0] if changes else None
        if changes and (below := _below(root, path)):
            look(f"{event} {below}")

    sys.addaudithook(audit)


def _below(root: str, path: Any) -> str:
    """The path if it lies below a folder, or is that folder; else nothing."""
    if not isinstance(path, str | bytes | Path):
        return ""
    text = os.path.abspath(os.fsdecode(path))
    return text if f"{text}/".startswith(f"{root}/") else ""
