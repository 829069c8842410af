"""What a command shows of its work: a bar on a terminal, a line per minute without one."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Kind = Literal["auto", "bar", "lines", "none"]
LINE_EVERY_S = 60.0


def clock(seconds: float) -> str:
    """A duration as h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


@dataclass
class Stage:
    """A part of the work.

    Attributes:
        total: how many things it does; 0: it is not known.
        unit: what these are called.
        first: how many were done before it began.
        status: what is to be seen beside the count.
        summary: the line that stays at the end; empty: count and time, of a stage that counts.
    """

    title: str
    total: int = 0
    unit: str = ""
    first: int = 0
    done: int = 0
    status: str = ""
    summary: str = ""
    began: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def seconds_left(self) -> float | None:
        """At the pace so far; None if nothing is done yet, or the total is not known."""
        done = self.done - self.first
        return self.seconds() / done * (self.total - self.done) if self.total and done > 0 else None

    def count(self) -> str:
        return f"{self.done}/{self.total} {self.unit}".strip() if self.total else ""

    def line(self) -> str:
        """Count, status, time and time left."""
        left = self.seconds_left()
        times = [clock(self.seconds())]
        times += [f"{clock(left)} left"] if left is not None and self.done < self.total else []
        words = [f"{self.title} {self.count()}".strip(), self.status, ", ".join(times)]
        return "  ".join(filter(None, words))


class Display:
    """Shows the stages of a command's work, of which one may lie within another.

    It draws no random numbers and changes nothing but the terminal. As a context manager it ends what it shows, also
    when the work fails.

    Args:
        kind: `bar`, `lines`, `none`; `auto`: a bar on a terminal, lines elsewhere.
        line_every_s: seconds between lines.
    """

    def __init__(self, kind: Kind = "none", line_every_s: float = LINE_EVERY_S) -> None:
        self.kind = ("bar" if sys.stdout.isatty() else "lines") if kind == "auto" else kind
        self._line_every_s = line_every_s
        self._stages: list[Stage] = []
        self._bar: Any = None
        self._tasks: list[Any] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self.kind == "bar":
            from drift_pl.core.bar import make_bar  # rich takes a while to import

            self._bar = make_bar()
            self._bar.start()
        elif self.kind == "lines":
            self._thread = threading.Thread(target=self._print_lines, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is shown; stages that are still open show nothing any more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._thread = None

    @contextmanager
    def stage(self, title: str, total: int = 0, unit: str = "", first: int = 0) -> Iterator[Stage]:
        """A part of the work, within the part that is under way; see `Stage`."""
        stage = self.begin(title, total, unit, first)
        try:
            yield stage
        finally:
            self.end(stage)

    def begin(self, title: str, total: int = 0, unit: str = "", first: int = 0) -> Stage:
        """For where a `with` cannot stand: the caller ends the stage."""
        stage = Stage(title, total, unit, first, first)
        self._stages.append(stage)
        if self._bar is not None:
            self._tasks.append(self._bar.add_task(title, total=total or None, completed=first, stage=stage))
        elif self._shows_lines():
            print(f"{title.removesuffix(':')} ({total - first} {unit})" if total else f"{title} ...", flush=True)
        return stage

    def end(self, stage: Stage) -> None:
        """Ends a stage, and those within it."""
        if stage not in self._stages:
            return
        while self._stages:
            last = self._stages.pop()
            if self._bar is not None:
                self._bar.remove_task(self._tasks.pop())
            if last is stage:
                break
        if stage.summary or stage.total:
            self.note(stage.summary or stage.line())

    def advance_by(self, things: int) -> None:
        """`things` more of the innermost stage are done."""
        if self._stages:
            self.advance(done=self._stages[-1].done + things)

    def advance(self, status: str = "", done: int | None = None) -> None:
        """One more thing, or `done` things in all, of the innermost stage are done."""
        if not self._stages:
            return
        stage = self._stages[-1]
        stage.done = stage.done + 1 if done is None else done
        stage.status = status
        if self._bar is not None:
            self._bar.update(self._tasks[-1], completed=stage.done)

    def note(self, line: str) -> None:
        """A line that stays, above a bar."""
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
        elif self._shows_lines():
            print(line, flush=True)

    def _shows_lines(self) -> bool:
        return self.kind == "lines" and not self._over.is_set()

    def _print_lines(self) -> None:
        while not self._over.wait(self._line_every_s):
            stages = [*self._stages]  # the other thread may change it meanwhile
            if stages:
                outer = [f"{stage.title} {stage.count()}".strip() for stage in stages[:-1]]
                print(" > ".join([*outer, stages[-1].line()]), flush=True)
