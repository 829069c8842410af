"""Finished runs side by side: a table over seeds, reward and diversity along training, the same noise through each."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drift_pl.config.run_folder import SUMMARY, resume_command, shown_measures
from drift_pl.core.errors import UserError
from drift_pl.evaluation.record import Evaluation, read_evaluation
from drift_pl.reports.compatibility import EVALUATE


@dataclass(frozen=True)
class FinishedRun:
    """Summary, iteration and means of each look along training, and grids of `base` and `tuned`, [P, S, 3, H, W]."""

    folder: Path
    summary: dict[str, Any]
    looks: list[dict[str, Any]]
    grids: dict[str, np.ndarray]

    @property
    def experiment(self) -> str:
        return self.summary["experiment"]


Groups = dict[str, list[FinishedRun]]
"""Experiment -> its runs in the order of seeds."""


def read_run(folder: Path) -> FinishedRun:
    """Reads what `fit` wrote; in version 0.1 the looks were in `history.json`, and arrays one folder higher.

    Raises:
        UserError: the folder is not that of a finished run.
    """
    summary, arrays, tuned = folder / SUMMARY, folder / "evaluation", "tuned"
    if not summary.is_file():
        raise UserError(f"{folder} has no {SUMMARY}: finish it with {resume_command(folder)}")
    old, test, tuning = (arrays / f"{name}.json" for name in ("history", "test", "tuning"))
    looks = json.loads(old.read_text())["history"] if old.is_file() else []
    if tuning.is_file():
        looks += _looks(read_evaluation(tuning))
    record = read_evaluation(test) if test.is_file() else None
    if record is not None and record.tuned.weights != "base":
        arrays, tuned = record.folder, record.tuned.name
    files = {"base": arrays / "base.npz", "tuned": arrays / f"{tuned}.npz"}
    for file in files.values():
        if not file.is_file():
            raise UserError(f"{file}: no such file; make it with {EVALUATE}{folder} fresh=true")
    grids = {which: np.load(file)["grid"] for which, file in files.items()}
    return FinishedRun(folder, json.loads(summary.read_text()), looks, grids)


def _looks(record: Evaluation) -> list[dict[str, Any]]:
    """Means of the points that were sampled as the first was: `evaluate` may have added other scales and powers."""
    points = [point for point in record.points if point.weights != "base"]
    sampled = [(point.weights, point.lora_scale, point.importance_power) for point in points]
    return [
        {"iteration": point.iteration, **{name: value.mean for name, value in point.values.items()}}
        for point, how in zip(points, sampled, strict=True)
        if how == sampled[0]
    ]


def group_by_experiment(runs: list[FinishedRun]) -> Groups:
    """Runs by experiment.

    Raises:
        UserError: runs were evaluated differently, or a seed comes twice.
    """
    groups: Groups = {}
    for run in sorted(runs, key=lambda run: (run.experiment, run.summary["seed"])):
        for key in ("encoder", "test_prompts", "images_per_prompt", "images"):
            if run.summary[key] != runs[0].summary[key]:
                raise UserError(f"{run.folder} and {runs[0].folder} differ in {key}: they cannot be compared")
        groups.setdefault(run.experiment, []).append(run)
    for experiment, group in groups.items():
        seeds = [run.summary["seed"] for run in group]
        if len(set(seeds)) < len(seeds):
            raise UserError(f"{experiment}: a seed comes twice in {seeds}; give each run once")
    return groups


def summary_table(groups: Groups) -> str:
    """Markdown: the base, then each experiment as mean +- standard deviation over seeds."""
    any_group = next(iter(groups.values()))
    columns = (run.summary[which] for group in groups.values() for run in group for which in ("base", "tuned"))
    names = shown_measures(*columns)
    lines = [f"| | seeds | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    base = [_number(_values(any_group, "base", name).mean()) for name in names]
    lines.append(f"| base | | {' | '.join(base)} |")
    for experiment, group in groups.items():
        cells = [_mean_and_spread(_values(group, "tuned", name)) for name in names]
        lines.append(f"| `{experiment}` | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _values(group: list[FinishedRun], which: str, name: str) -> np.ndarray:
    """A measure of each run; NaN for one that has none."""
    return np.array([run.summary[which][name] for run in group], dtype=np.float64)


def _mean_and_spread(numbers: np.ndarray) -> str:
    if np.isnan(numbers).any():
        return "-"
    spread = f" +- {numbers.std(ddof=1):.3f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.3f}{spread}"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def draw(groups: Groups, path: Path) -> None:
    """The picture: a curve per seed, and the same noise through each model."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 4.8), layout="constrained")
    axes = figure.subplot_mosaic([["reward", "pictures"], ["distance", "pictures"]], width_ratios=(1.25, 1))
    for key, name, label in (
        ("reward", "reward", "reward"),
        ("distance", "pairwise_distance", "pairwise distance"),
    ):
        _draw_curves(axes[key], groups, name, label)
    axes["reward"].legend(frameon=False)
    axes["reward"].set_title("tuning prompts, along training; a line per seed", fontsize=10)
    axes["distance"].set_xlabel("iteration")
    pictures = axes["pictures"]
    sheet = _sheet(groups)
    block = sheet.shape[0] / (len(groups) + 1)
    pictures.imshow(sheet)
    pictures.set_yticks([(number + 0.5) * block for number in range(len(groups) + 1)], ["base", *groups])
    pictures.set_xticks([])
    pictures.spines[:].set_visible(False)
    pictures.tick_params(length=0)
    pictures.set_title("test prompts, a row each; the same noise in every block", fontsize=10)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _draw_curves(axis: Any, groups: Groups, name: str, label: str) -> None:
    for number, (experiment, group) in enumerate(groups.items()):
        for position, run in enumerate(group):
            iterations = [entry["iteration"] for entry in run.looks]
            series = np.array([entry[name] for entry in run.looks], dtype=np.float64)  # None becomes NaN
            legend = experiment if position == 0 else None
            axis.plot(iterations, series, marker="o", markersize=3, color=f"C{number}", alpha=0.8, label=legend)
    axis.set_ylabel(label)
    axis.spines[["top", "right"]].set_visible(False)


def _sheet(groups: Groups) -> np.ndarray:
    """Blocks of images under one another: the base, then the first seed of each experiment."""
    first = next(iter(groups.values()))[0]
    blocks = [first.grids["base"], *(group[0].grids["tuned"] for group in groups.values())]
    padded = [np.pad(block, ((0, 0),) * 3 + ((1, 1), (1, 1)), constant_values=255) for block in blocks]
    sheets = [np.pad(_stack_rows(block), ((0, 6), (0, 0), (0, 0)), constant_values=255) for block in padded]
    return np.concatenate(sheets, axis=0)


def _stack_rows(block_PS3HW: np.ndarray) -> np.ndarray:
    rows = [np.concatenate(list(row_S3HW.transpose(0, 2, 3, 1)), axis=1) for row_S3HW in block_PS3HW]
    return np.concatenate(rows, axis=0)
