"""Finished runs with chosen values, and everything that report.html shows of one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_up_evaluations import PROMPTS, PROTOCOL, TRAINING, make_point

from drift_pl.config.loading import config_yaml, parse
from drift_pl.evaluation.grids import labelled_grid, save_image

NASTY = "</script><script>alert(1)</script> & \"quoted\" 'x' <img src=x onerror=alert(1)>"
LOGGED = {
    "reward/mean": [0.5, 0.55, 0.6],
    "diversity/pairwise_distance": [0.8, 0.6, 0.4],
    "reward/zero_std_groups": [0.0, 0.0, 0.0],
    "shaping/bonus_group_std": [0.5, 0.5, 0.5],
    "policy/latent_rms": [1.0, 1.0, 1.0],
}


def make_finished_run(
    folder: Path,
    *overrides: str,
    experiment: str = "shapes_div",
    seed: int = 0,
    reward: float = 0.6,
    prompts: Sequence[str] = PROMPTS,
    values: dict[str, float] | None = None,
    logged: dict[str, list[float]] | None = None,
) -> Path:
    """A run that went from a reward of 0.5 and a distance of 0.8 to `reward` and 0.4, looked at three times.

    Args:
        values: measure -> the tuned model's mean, besides these; the base's are those of `made_up_evaluations`.
        logged: key -> a value per iteration, besides `LOGGED`.
    """
    tuned = {"pairwise_distance": 0.4, **(values or {})}
    request = parse([f"experiment={experiment}", f"seed={seed}", "evaluation.grid_seeds=3", *overrides])
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config_yaml(request.config, request.tree))
    looks = [
        _look(folder, prompts, 10 * number, 0.5 + number * (reward - 0.5) / 2, 0.8 - 0.2 * number)
        for number in range(3)
    ]
    last = make_point(20, reward, **tuned) | {"name": "tuned"}
    _write(folder / "evaluation" / "tuning.json", prompts, looks)
    _write(folder / "evaluation" / "test.json", prompts, [make_point(0, 0.5), last])
    _write_grids(folder)
    base = {"reward": 0.5, "pairwise_distance": 0.8, "vendi": 4.0}
    held_out = {name: 0.3 for name in tuned if name.startswith("heldout")} | (
        {"alignment": 0.9} if "alignment" in tuned else {}
    )
    summary = {"experiment": experiment, "seed": seed, "encoder": "e", "test_prompts": 2, "images": 1280, "seconds": 61}
    summary |= {"images_per_prompt": 16, "iterations": 20, "base": base | held_out}
    summary["tuned"] = {"vendi": 3.0, "reward": reward} | {
        k.replace("heldout_", "heldout/"): v for k, v in tuned.items()
    }
    summary["base"] = {name.replace("heldout_", "heldout/"): value for name, value in summary["base"].items()}
    (folder / "summary.json").write_text(json.dumps(summary))
    _write_metrics(folder / "csv" / "metrics.csv", LOGGED | (logged or {}))
    return folder


def _look(folder: Path, prompts: Sequence[str], iteration: int, reward: float, distance: float) -> dict[str, Any]:
    """A point along training with its picture: of prompt p and noise s, 4 * iteration + 10 p + s + the column."""
    grey_PS = torch.tensor([[4 * iteration + 10 * p + s for s in range(3)] for p in range(2)])
    tiles_PSHW = (grey_PS[:, :, None, None] + torch.arange(8)).expand(2, 3, 8, 8) / 255
    picture = folder / "samples" / f"iteration-{iteration:06d}.png"
    save_image(labelled_grid(["t"], [tiles_PSHW[:, :, None].expand(2, 3, 3, 8, 8)], list(prompts)), picture)
    point = make_point(iteration, reward, pairwise_distance=distance)
    point |= {"weights": "average", "name": f"iteration-{iteration:06d}", "picture": f"../samples/{picture.name}"}
    value = {"low": None, "high": None, "prompts": 2}
    return point | {"values": {"reward": value | {"mean": reward}, "pairwise_distance": value | {"mean": distance}}}


def _write(path: Path, prompts: Sequence[str], points: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"format": "drift_pl.evaluation", "version": 1, "method": "m", "experiment": "m", "seed": 0}
    header |= {"config_hash": "0123abcd", "training": TRAINING, "protocol": PROTOCOL | {"prompts": list(prompts)}}
    path.write_text(json.dumps(header | {"points": points}))


def _write_grids(folder: Path) -> None:
    points = folder / "evaluation" / "test" / "points"
    points.mkdir(parents=True)
    for grey, which in enumerate(("base", "tuned")):
        np.savez(points / f"{which}.npz", grid=np.full((2, 3, 3, 8, 8), 100 * grey, np.uint8))


def _write_metrics(path: Path, logged: dict[str, list[float]]) -> None:
    path.parent.mkdir()
    rows = [",".join(["step", *logged])]
    rows += [",".join(map(str, [step, *values])) for step, values in enumerate(zip(*logged.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n")
