"""The command that compares finished runs: `python -m drift_pl.report RUN_FOLDER ... [out=FOLDER]`.

Groups runs by experiment, averages over seeds, and writes `report.md`, `report.json` and `report.png`: reward and
diversity along training, and the same noise through the base and through each experiment.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drift_pl.config.command import run_command
from drift_pl.config.run_folder import SUMMARY_MEASURES
from drift_pl.core.errors import UserError
from drift_pl.core.files import write_json, write_text


@dataclass(frozen=True)
class FinishedRun:
    """What a finished run left behind."""

    folder: Path
    summary: dict[str, Any]
    history: list[dict[str, float]]

    @property
    def experiment(self) -> str:
        return self.summary["experiment"]

    def images(self, which: str) -> np.ndarray:
        """Grid images of `base` or `tuned`, uint8 [P, S, 3, H, W]."""
        return np.load(self.folder / "evaluation" / f"{which}.npz")["grid"]


def read_run(folder: Path) -> FinishedRun:
    """Reads a run's summary and history.

    Raises:
        UserError: the folder is not that of a finished run.
    """
    summary = folder / "summary.json"
    if not summary.is_file():
        raise UserError(f"{folder} has no summary.json: finish it with python -m drift_pl.fit ... ckpt_path=auto")
    history = folder / "evaluation" / "history.json"
    entries = json.loads(history.read_text())["history"] if history.is_file() else []
    return FinishedRun(folder, json.loads(summary.read_text()), entries)


def group_by_experiment(runs: list[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Experiment -> its runs in the order of seeds.

    Raises:
        UserError: runs were evaluated differently, or a seed comes twice.
    """
    groups: dict[str, list[FinishedRun]] = {}
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


def values(group: list[FinishedRun], which: str, name: str) -> np.ndarray:
    return np.array([run.summary[which][name] for run in group])


def table(groups: dict[str, list[FinishedRun]]) -> str:
    """Markdown: the base, then each experiment as mean +- standard deviation over seeds."""
    any_group = next(iter(groups.values()))
    names = [name for name in SUMMARY_MEASURES if name in any_group[0].summary["base"]]
    lines = [f"| | seeds | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    base = [f"{values(any_group, 'base', name).mean():.3f}" for name in names]
    lines.append(f"| base | | {' | '.join(base)} |")
    for experiment, group in groups.items():
        cells = [_mean_and_spread(values(group, "tuned", name)) for name in names]
        lines.append(f"| `{experiment}` | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean_and_spread(numbers: np.ndarray) -> str:
    spread = f" +- {numbers.std(ddof=1):.3f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.3f}{spread}"


def draw(groups: dict[str, list[FinishedRun]], path: Path) -> None:
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


def _draw_curves(axis: Any, groups: dict[str, list[FinishedRun]], name: str, label: str) -> None:
    for number, (experiment, group) in enumerate(groups.items()):
        for position, run in enumerate(group):
            iterations = [entry["iteration"] for entry in run.history]
            series = [entry[name] for entry in run.history]
            legend = experiment if position == 0 else None
            axis.plot(iterations, series, marker="o", markersize=3, color=f"C{number}", alpha=0.8, label=legend)
    axis.set_ylabel(label)
    axis.spines[["top", "right"]].set_visible(False)


def _sheet(groups: dict[str, list[FinishedRun]]) -> np.ndarray:
    """Blocks of images under one another: the base, then the first seed of each experiment."""
    first = next(iter(groups.values()))[0]
    blocks = [first.images("base"), *(group[0].images("tuned") for group in groups.values())]
    padded = [np.pad(block, ((0, 0),) * 3 + ((1, 1), (1, 1)), constant_values=255) for block in blocks]
    sheets = [np.pad(_stack_rows(block), ((0, 6), (0, 0), (0, 0)), constant_values=255) for block in padded]
    return np.concatenate(sheets, axis=0)


def _stack_rows(block_PS3HW: np.ndarray) -> np.ndarray:
    rows = [np.concatenate(list(row_S3HW.transpose(0, 2, 3, 1)), axis=1) for row_S3HW in block_PS3HW]
    return np.concatenate(rows, axis=0)


def _run(argv: list[str]) -> None:
    if not argv or "--help" in argv or "-h" in argv:
        print(__doc__)
        return
    out = Path(next((item.removeprefix("out=") for item in argv if item.startswith("out=")), "."))
    folders = [Path(item) for item in argv if not item.startswith(("out=", "--"))]
    if not folders:
        raise UserError("no run folder given: python -m drift_pl.report runs/shapes_div-* runs/shapes_flowgrpo-*")
    groups = group_by_experiment([read_run(folder) for folder in folders])
    out.mkdir(parents=True, exist_ok=True)
    text = table(groups)
    write_text(out / "report.md", text + "\n")
    everything = {experiment: [run.summary for run in group] for experiment, group in groups.items()}
    write_json(out / "report.json", everything)
    draw(groups, out / "report.png")
    print(text)
    print(f"\nwritten: {out / 'report.md'}, report.json, report.png")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
