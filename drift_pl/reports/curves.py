"""Finished runs side by side: a table over seeds, curves along training, and images from the same noise."""

import itertools
import math
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drift_pl.config.run_folder import MEASURED, shown_measures
from drift_pl.core.errors import UserError
from drift_pl.core.files import replacing
from drift_pl.evaluation.record import EVALUATE
from drift_pl.reports.compatibility import BASE_TOLERANCE, measured_differently
from drift_pl.reports.finished_run import FinishedRun
from drift_pl.reports.markdown import code, row
from drift_pl.reports.variants import named, variants

NAME_WIDTH = 32
"""Characters of a line of a name in the picture."""

Groups = dict[str, list[FinishedRun]]
"""Experiment, with the settings that differ if some do -> its runs in the order of seeds."""


def group_by_experiment(runs: list[FinishedRun]) -> Groups:
    """Runs by experiment and settings; only seeds of both are averaged.

    Raises:
        UserError: runs were evaluated differently, or a seed comes twice.
    """
    runs_by_seed = sorted(runs, key=lambda run: (run.experiment, run.summary["seed"]))
    for run in runs_by_seed:
        _refuse_incomparable(run, runs)
    groups: Groups = {}
    for run, variant in zip(runs_by_seed, variants(runs_by_seed), strict=True):
        groups.setdefault(named(run.experiment, variant), []).append(run)
    for name, group in groups.items():
        for one, other in itertools.pairwise(group):
            if one.summary["seed"] == other.summary["seed"]:
                seed = f"seed {one.summary['seed']} of {name}"
                raise UserError(f"{one.folder} and {other.folder} are both {seed}: give each run once")
    return groups


def _refuse_incomparable(run: FinishedRun, runs: Sequence[FinishedRun]) -> None:
    """Compares a run with the first.

    Raises:
        UserError: it was evaluated differently.
    """
    first = runs[0]
    for key in MEASURED:
        if run.summary[key] != first.summary[key]:
            values = f"{key} ({run.summary[key]} and {first.summary[key]})"
            raise UserError(f"{run.folder} and {first.folder} differ in {values}: they cannot be compared")
    _refuse_other_base(run, first)
    difference = _measured_differently(first, run)
    if difference:
        alike = shlex.join(str(other.folder) for other in runs if not _measured_differently(first, other))
        raise UserError(f"{difference}: report runs that were measured alike, python -m drift_pl.report {alike}")
    for which, grid_PS3HW in run.grids.items():
        if grid_PS3HW.shape[1:] != first.grids["base"].shape[1:]:
            raise UserError(
                f"{run.folder}, {which}, and {first.folder}, base, differ in the number or size of their "
                f"pictures: measure both alike, {EVALUATE}{run.folder} fresh=true"
            )


def _refuse_other_base(run: FinishedRun, first: FinishedRun) -> None:
    """Checks that two runs measured the same values of the base model, without which they cannot be compared.

    Raises:
        UserError: two runs began with other weights, or these give other images where they were measured.
    """
    bases = run.summary["base"], first.summary["base"]
    for name in bases[0]:
        one, other = (base.get(name) for base in bases)
        if one is not None and other is not None and not np.isclose(one, other, BASE_TOLERANCE, BASE_TOLERANCE):
            raise UserError(
                f"{run.folder} and {first.folder} have other base models: the base model's {name} is {one:.7g} and "
                f"{other:.7g}; report them apart"
            )


def _measured_differently(first: FinishedRun, second: FinishedRun) -> str:
    """See `measured_differently`; a run of version 0.1 does not say how it was measured."""
    return measured_differently(first.record, second.record) if first.record and second.record else ""


def summary_table(groups: Groups) -> str:
    """Markdown: the base, then each group as mean +- standard deviation over seeds."""

    def values(group: list[FinishedRun], which: str, name: str) -> np.ndarray:
        return np.array([run.summary[which][name] for run in group], dtype=np.float64)  # None becomes NaN

    any_group = next(iter(groups.values()))
    runs = [run for group in groups.values() for run in group]
    names = shown_measures(*(run.summary[which] for run in runs for which in ("base", "tuned")))
    lines = ["| " + row(["seeds", *names]), "|---" * (len(names) + 2) + "|"]
    base = [_cell(values(any_group, "base", name), spread=False) for name in names]
    lines.append(f"| base | | {' | '.join(base)} |")
    for experiment, group in groups.items():
        cells = [_cell(values(group, "tuned", name), spread=len(group) > 1) for name in names]
        lines.append(row([code(experiment), str(len(group)), *cells]))
    return "\n".join(lines)


def _cell(values_R: np.ndarray, spread: bool) -> str:
    if np.isnan(values_R).any():
        return "-"
    return f"{values_R.mean():.3f}" + (f" +- {values_R.std(ddof=1):.3f}" if spread else "")


def draw(groups: Groups, path: Path) -> None:
    """Writes the picture: a curve per seed, and the same noise through each model."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"text.parse_math": False}):  # a $ in a setting is a dollar
        _draw(groups, path)


def _draw(groups: Groups, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 4.8), layout="constrained")
    axes = figure.subplot_mosaic([["reward", "pictures"], ["pairwise_distance", "pictures"]], width_ratios=(1.25, 1))
    for name in ("reward", "pairwise_distance"):
        _draw_curves(axes[name], groups, name)
    axes["reward"].legend(frameon=False)
    axes["reward"].set_title("tuning prompts, along training; a line per seed", fontsize=10)
    axes["pairwise_distance"].set_xlabel("iteration")
    pictures, names = axes["pictures"], ["base", *groups]
    sheet = _sheet(groups)
    block = sheet.shape[0] / len(names)
    pictures.imshow(sheet)
    pictures.set_yticks([(number + 0.5) * block for number in range(len(names))], [*map(_wrapped, names)])
    pictures.set_xticks([])
    pictures.spines[:].set_visible(False)
    pictures.tick_params(length=0)
    pictures.set_title("test prompts, a row each; the same noise in every block", fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=140, format="png")
    plt.close(figure)


def _draw_curves(axis: Any, groups: Groups, name: str) -> None:
    for number, (name_of_group, group) in enumerate(groups.items()):
        for position, run in enumerate(group):
            iterations = [entry["iteration"] for entry in run.history]
            series = [math.nan if entry.get(name) is None else entry[name] for entry in run.history]
            legend = _wrapped(name_of_group) if position == 0 else None
            axis.plot(iterations, series, marker="o", markersize=3, color=f"C{number}", alpha=0.8, label=legend)
    axis.set_ylabel(name.replace("_", " "))
    axis.spines[["top", "right"]].set_visible(False)


def _wrapped(name: str) -> str:
    """A name on lines that leave room for what it names."""
    return textwrap.fill(name, NAME_WIDTH)


def _sheet(groups: Groups) -> np.ndarray:
    """Blocks of images of one height, one below the other: the base, then the first seed of each group.

    Runs may have kept different numbers of prompts (evaluation.grid_prompts): all show those that each has.
    """
    first = next(iter(groups.values()))[0]
    blocks = [first.grids["base"], *(group[0].grids["tuned"] for group in groups.values())]
    count, sheets = min(map(len, blocks)), []
    for block_PS3HW in blocks:
        padded = np.pad(block_PS3HW[:count], ((0, 0),) * 3 + ((1, 1), (1, 1)), constant_values=255)
        prompts, seeds, _, height, width = padded.shape
        rows = padded.transpose(0, 3, 1, 4, 2).reshape(prompts * height, seeds * width, 3)
        sheets.append(np.pad(rows, ((0, 6), (0, 0), (0, 0)), constant_values=255))
    return np.concatenate(sheets)
