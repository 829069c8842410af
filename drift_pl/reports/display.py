"""What a measurement shows on the terminal: a line per point, and a table at the end."""

from drift_pl.config.run_folder import HELD_OUT
from drift_pl.evaluation.record import Evaluation, Point, titles

COLUMNS = {
    "reward": "reward",
    "pairwise_distance": "distance",
    "valid_pairwise_distance": "valid",
    "vendi": "vendi",
    "pairwise_lpips": "lpips",
    "alignment": "alignment",
    "coverage": "coverage",
    "styles": "styles",
}
"""Measures of the table and their headings; held-out rewards follow."""


def headline(point: Point) -> str:
    """Reward and diversity, to be shown beside a point's title."""
    values = [(label, point.values[name].mean) for name, label in list(COLUMNS.items())[:2] if name in point.values]
    return " ".join(f"{label}={mean:.3f}" for label, mean in values if mean is not None)


def table(evaluation: Evaluation) -> str:
    """Means over prompts of the base model and all points, as text."""
    measures = evaluation.points[0].values
    columns = {name: label for name, label in COLUMNS.items() if name in measures}
    columns |= {name: name.removeprefix(HELD_OUT) for name in measures if name.startswith(HELD_OUT)}
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
