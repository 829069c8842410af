"""What a measurement shows on the terminal: how far it is, and a table at its end."""

import time
from collections.abc import Callable
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from drift_pl.evaluation.record import Evaluation, Point

COLUMNS = {
    "reward": "reward",
    "pairwise_distance": "distance",
    "valid_pairwise_distance": "valid",
    "vendi": "vendi",
    "pairwise_lpips": "lpips",
    "alignment": "alignment",
    "coverage": "coverage",
}
"""Measures of the table, and what stands above them; held-out judges follow."""

BEFORE_THE_FIRST = 2
"""Texts that are asked for before a prompt is done: the negative prompt, and the first prompt itself."""


class Progress:
    """Shows prompts of all points; plain lines without a terminal.

    Args:
        points, prompts: how many there are to measure, and of each.
    """

    def __init__(self, points: int, prompts: int) -> None:
        self._points, self._prompts = points, prompts
        self._done = 0
        self._title = ""
        self._started = self._point_started = time.perf_counter()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("prompts"),
            TimeRemainingColumn(),
            transient=True,
        )
        self._task = self._bar.add_task("", total=points * prompts)

    def __enter__(self) -> "Progress":
        if self._bar.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def begin(self, title: str) -> Callable[[], None]:
        """Names the point; the function that is returned is to be called at each text that is encoded."""
        self._title, self._point_started = title, time.perf_counter()
        self._bar.update(self._task, description=title)
        texts = 0

        def begun() -> None:
            nonlocal texts
            texts += 1
            done = self._done * self._prompts + max(texts - BEFORE_THE_FIRST, 0)
            self._bar.update(self._task, completed=done)

        return begun

    def end(self, summary: str) -> None:
        """Prints the point's line."""
        self._done += 1
        self._bar.update(self._task, completed=self._done * self._prompts)
        now = time.perf_counter()
        left = (now - self._started) / self._done * (self._points - self._done)
        line = f"{self._done}/{self._points}  {self._title}  {summary}  {now - self._point_started:.0f} s"
        self._bar.console.print(line + (f", {left:.0f} s left" if left else ""), highlight=False, soft_wrap=True)


def headline(point: Point) -> str:
    """Reward and diversity, to stand beside a point's name."""
    values = [(label, point.values[name].mean) for name, label in list(COLUMNS.items())[:2] if name in point.values]
    return " ".join(f"{label}={mean:.3f}" for label, mean in values if mean is not None)


def table(evaluation: Evaluation) -> str:
    """Means over prompts of the base model and all points, as text."""
    measures = evaluation.points[0].values
    columns = {name: label for name, label in COLUMNS.items() if name in measures}
    columns |= {name: name.removeprefix("heldout/") for name in measures if name.startswith("heldout/")}
    rows = [["", *columns.values()]]
    for point in evaluation.points:
        means = [point.values[name].mean if name in point.values else None for name in columns]
        rows.append([point.title(), *("-" if mean is None else f"{mean:.4f}" for mean in means)])
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(line))
        for line in (list(zip(row, widths, strict=True)) for row in rows)
    )
