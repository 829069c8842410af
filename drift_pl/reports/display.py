"""What a measurement shows on the terminal: its progress, and a table at the end."""

import time

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from drift_pl.evaluation.record import Evaluation, Point, titles

COLUMNS = {
    "reward": "reward",
    "pairwise_distance": "distance",
    "valid_pairwise_distance": "valid",
    "vendi": "vendi",
    "pairwise_lpips": "lpips",
    "alignment": "alignment",
    "coverage": "coverage",
}
"""Measures of the table and their headings; held-out rewards follow."""


class Progress(Bar):
    """Counts prompts over all points, and prints a line per point; without a terminal, the lines alone.

    Args:
        points, prompts: number of points to measure, and of prompts per point.
    """

    def __init__(self, points: int, prompts: int) -> None:
        bar = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("prompts"), TimeRemainingColumn())
        super().__init__(TextColumn("{task.description}"), *bar, transient=True)
        self._points, self._measured = points, 0
        self._started = self._point_started = time.perf_counter()
        self.add_task("", total=points * prompts)

    def begin(self, title: str) -> None:
        """Names the point that is measured next."""
        self._point_started = time.perf_counter()
        self.update(self.task_ids[0], description=title)

    def after_prompt(self) -> None:
        self.advance(self.task_ids[0])

    def end(self, title: str, summary: str) -> None:
        """Prints the point's line."""
        self._measured += 1
        now = time.perf_counter()
        left = (now - self._started) / self._measured * (self._points - self._measured)
        line = f"{self._measured}/{self._points}  {title}  {summary}  {now - self._point_started:.0f} s"
        self.console.print(line + (f", {left:.0f} s left" if left else ""), highlight=False, soft_wrap=True)


def headline(point: Point) -> str:
    """Reward and diversity, to be shown beside a point's title."""
    values = [(label, point.values[name].mean) for name, label in list(COLUMNS.items())[:2] if name in point.values]
    return " ".join(f"{label}={mean:.3f}" for label, mean in values if mean is not None)


def table(evaluation: Evaluation) -> str:
    """Means over prompts of the base model and all points, as text."""
    measures = evaluation.points[0].values
    columns = {name: label for name, label in COLUMNS.items() if name in measures}
    columns |= {name: name.removeprefix("heldout/") for name in measures if name.startswith("heldout/")}
    rows = [["", *columns.values()]]
    for title, point in zip(titles(evaluation.points), evaluation.points, strict=True):
        means = [point.values[name].mean if name in point.values else None for name in columns]
        rows.append([title, *("-" if mean is None else f"{mean:.4f}" for mean in means)])
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for title, *cells in rows:
        right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([title.ljust(widths[0]), *right]))
    return "\n".join(lines)
