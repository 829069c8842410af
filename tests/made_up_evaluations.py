"""Evaluation files with chosen values, for what reads them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROMPTS = ["a red dot", "a blue bar"]
PROTOCOL = {
    "prompts": PROMPTS,
    "seeds_per_prompt": 16,
    "steps": 20,
    "guidance_scale": 1.0,
    "negative_prompt": "",
    "resolution": None,
    "precision": "32-true",
    "policy": "sd3 folder",
    "judges": ["pickscore x 1.0"],
    "heldout_judges": ["clip_score"],
    "encoder": "pooled",
    "lpips": "lpips",
    "measures": ["shapes"],
    "vendi_order": 1.0,
}
TRAINING = {"iterations": 20, "images": 1280, "optimiser_steps": 40, "prompts_digest": "0123456789ab"}
BASE = {"pairwise_distance": 0.8, "coverage": 0.5, "alignment": 0.9, "heldout/clip_score": 0.3}


def make_point(iteration: int, reward: float | list, picture: str | None = None, **values: Any) -> dict[str, Any]:
    """A point of an evaluation file.

    Args:
        values: by measure (`heldout_clip_score` for `heldout/clip_score`): a mean, which two prompts get as 3/4 and 5/4
            of it, or the values per prompt. What is missing is the base model's. `lora_scale`, `importance_power` and
            `weights` are the point's.
    """
    fields = {"lora_scale": 1.0, "importance_power": None, "weights": "average" if iteration else "base"}
    fields |= {name: values.pop(name) for name in fields if name in values}
    measured = (
        BASE | {"reward": reward} | {name.replace("heldout_", "heldout/"): value for name, value in values.items()}
    )
    per_prompt = {
        name: value if isinstance(value, list) else [0.75 * value, 1.25 * value] for name, value in measured.items()
    }
    name = f"iteration-{iteration}" if iteration else "base"
    name += "".join(f"-{fields[key]}" for key in ("lora_scale", "importance_power") if fields[key] not in (1.0, None))
    return {
        "name": name,
        "checkpoint": f"{name}.ckpt" if iteration else None,
        "digest": "0123456789ab" if iteration else None,
        "iteration": iteration,
        "images": 64 * iteration,
        "values": {},
        "per_prompt": per_prompt,
        "picture": picture,
        **fields,
    }


def write_file(
    folder: Path,
    method: str,
    seed: int,
    points: Sequence[dict[str, Any]],
    protocol: dict[str, Any] | None = None,
    **header: Any,
) -> Path:
    """A run folder with an evaluation file in it; a name in `header` replaces the file's, `training` in part."""
    path = folder / f"{method.replace('/', '_')}-s{seed}"
    path.mkdir(parents=True)
    content = {
        "format": "drift_pl.evaluation",
        "version": 1,
        "method": method,
        "experiment": method,
        "seed": seed,
        "config_hash": "0123abcd",
        "training": TRAINING | header.pop("training", {}),
        "protocol": PROTOCOL | (protocol or {}),
        "points": list(points),
        **header,
    }
    (path / "evaluation.json").write_text(json.dumps(content))
    return path


def write_study(folder: Path, methods: Sequence[str] = ("plain_flowgrpo", "drift"), seeds: int = 3) -> list[Path]:
    """Methods whose gains are worked out by hand in `tests/commands/test_pareto.py`.

    (reward, pairwise distance): the base (1, 0.8); the first method (1 + f, 0.6) and (1 + 2f, 0.4); the others
    (1 + f, 0.7) and (1 + 2f, 0.6), where f is 0.5, 1, 1.5 for three seeds: 1 on average. The gains do not depend on f,
    so seeds that are paired agree, and seeds that are not do not.
    """
    paths = []
    for method in methods:
        middle, last = (0.6, 0.4) if method == methods[0] else (0.7, 0.6)
        for seed in range(seeds):
            far = 1 + 0.5 * (seed - (seeds - 1) / 2)
            points = [
                make_point(0, 1.0),
                make_point(10, 1 + far, pairwise_distance=middle, coverage=0.45, alignment=0.92),
                make_point(20, 1 + 2 * far, pairwise_distance=last, coverage=0.4, alignment=0.95),
            ]
            paths.append(write_file(folder, method, seed, points))
    return paths
