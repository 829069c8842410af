"""How fast runs learn, from what `fit` logs: `csv/metrics.csv` of their folders. `lever_signal.py` prints it."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from drift_pl.core.errors import UserError

KEYS = {
    "advantage": "policy/advantage_magnitude",
    "grad_norm": "policy/grad_norm",
    "kept": "selection/kept_fraction",
    "bonus_std": "shaping/bonus_group_std",
}
"""Means over a run."""


def learning(run: Path, first: int | None = None) -> dict[str, float | str | None]:
    """Of one run; None where it logs no such metric.

    Args:
        first: look at so many iterations only; None: all.

    Returns:
        `reward_per_iteration`: slope of the training groups' mean reward, by least squares; `kl`: mean over the last
        third of the iterations; means over all of them of the `KEYS`; `iterations`; `run`: the folder's name.

    Raises:
        UserError: the run has no metrics, or those of fewer than two iterations.
    """
    path = run / "csv" / "metrics.csv"
    if not path.is_file():
        raise UserError(f"{path} does not exist: train the run with trainer.logger=[csv]")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("reward/mean")][:first]
    if len(rows) < 2:
        raise UserError(f"{path} has {len(rows)} iterations: a slope needs two")
    at_N, reward_N = (np.array(_column(rows, key)) for key in ("iteration", "reward/mean"))
    return {
        "run": run.name,
        "iterations": len(rows),
        "reward_per_iteration": float(np.polyfit(at_N, reward_N, 1)[0]),
        "kl": _mean(_column(rows[-max(len(rows) // 3, 1) :], "policy/kl")),
        **{name: _mean(_column(rows, key)) for name, key in KEYS.items()},
    }


def learning_table(rows: Sequence[Mapping[str, float | str | None]]) -> str:
    """A line per run."""
    lines = [
        "| run | reward per 100 iterations | mean size of an advantage | kept | bonus, std in a group | gradient norm "
        "| KL, last third |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        cells = [f"{100 * float(row['reward_per_iteration'] or 0):.3f}"]
        cells += [_cell(row[name]) for name in ("advantage", "kept", "bonus_std", "grad_norm", "kl")]
        lines.append(f"| {row['run']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _column(rows: Sequence[Mapping[str, str]], key: str) -> list[float]:
    return [float(row[key]) for row in rows if row.get(key)]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _cell(value: float | str | None) -> str:
    return "" if value is None else f"{float(value):.3g}"
