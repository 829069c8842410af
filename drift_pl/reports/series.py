"""What a run logged along training, read back from its CSV file or its TensorBoard events. No torch."""

import csv
import logging
import math
from collections.abc import Iterator
from pathlib import Path

from drift_pl.core.errors import UserError

Series = dict[str, list[tuple[int, float]]]
"""Key -> (completed iterations, value), in order; values that are not finite are left out."""


def read_series(run_dir: Path) -> Series:
    """Everything logged per iteration; empty if no logger of ours kept it, or its files are damaged."""
    table, events = run_dir / "csv" / "metrics.csv", run_dir / "tensorboard"
    found: dict[str, dict[int, float]] = {}
    for key, step, value in _of_csv(table) if table.is_file() else _of_tensorboard(events):
        if math.isfinite(value) and not key.startswith("eval/"):
            found.setdefault(key, {})[step + 1] = value
    return {key: sorted(values.items()) for key, values in found.items()}


def last_part(series: Series, key: str, share: float = 0.25) -> float | None:
    """Mean over the last quarter of a run; None without values."""
    values = [value for _, value in series.get(key, [])]
    chosen = values[-max(1, round(share * len(values))) :]
    return sum(chosen) / len(chosen) if values else None


def _of_csv(table: Path) -> Iterator[tuple[str, int, float]]:
    try:
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                step = int(row.pop("step"))
                yield from ((key, step, float(text)) for key, text in row.items() if key and text)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return


def _of_tensorboard(folder: Path) -> Iterator[tuple[str, int, float]]:
    if not folder.is_dir():
        return
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each step that a resume has purged
    try:
        events = EventAccumulator(str(folder), size_guidance={SCALARS: 0, TENSORS: 0}).Reload()
        for key in events.Tags()[SCALARS]:
            yield from ((key, event.step, event.value) for event in events.Scalars(key))
        for key in events.Tags()[TENSORS]:
            arrays = ((event.step, make_ndarray(event.tensor_proto)) for event in events.Tensors(key))
            yield from ((key, step, float(array)) for step, array in arrays if array.size == 1)
    except (OSError, ValueError, TypeError, UserError):
        return
