"""A reward, an encoder and measures of one's own, by `module:Thing` alone, in a whole run."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from extending.my_encoder import thumbnail
from extending.my_reward import Brightness
from runs import TinyWorld
from scipy.spatial.distance import pdist

from drift_pl.evaluation.record_file import read_evaluation

OWN = (
    "rewards=[{name: 'extending.my_reward:Brightness', weight: 2, args: {factor: 0.5}}]",
    "incentive.shaping.encoder.name=extending.my_encoder:thumbnail",
    "evaluation.encoder.name=extending.my_encoder:thumbnail",
    "evaluation.measures=[{name: 'extending.my_measure:contrast'}, {name: 'extending.my_measure:FarthestPair'}]",
    *("trainer.iterations=2", "evaluation.every=1", "trainer.logger=[csv]", "evaluation.grid_seeds=2"),
)


def test_each_shows_up_in_the_summary_and_in_the_logs(tmp_path: Path) -> None:
    """Oracles: numpy and scipy on the images that the run kept, which here are all of them, in 8 bits."""
    run_dir = tmp_path / "run"
    TinyWorld.create(tmp_path).fit(run_dir, *OWN)
    summary, record = json.loads((run_dir / "summary.json").read_text()), read_evaluation(run_dir)
    assert summary["encoder"] == "extending.my_encoder:thumbnail {}"
    for which, point in (("base", record.base), ("tuned", record.tuned)):
        grid_PS3HW = np.load(record.folder / f"{point.name}.npz")["grid"].astype(np.float32) / 255
        images = [torch.from_numpy(images_S3HW) for images_S3HW in grid_PS3HW]
        distances = [pdist(thumbnail(images_S3HW).double(), metric="cosine") for images_S3HW in images]
        bright = [
            float(Brightness(0.5)(images_S3HW, [prompt] * 2).mean())
            for images_S3HW, prompt in zip(images, record.protocol["prompts"], strict=True)
        ]
        expected = {
            "reward/Brightness": np.mean(bright),
            "reward": 2 * np.mean(bright),
            "pairwise_distance": np.mean([pairs.mean() for pairs in distances]),
            "FarthestPair": np.mean([pairs.max() for pairs in distances]),
            "contrast": np.mean([float(images_S3HW.std()) for images_S3HW in images]),
        }
        assert {name: summary[which][name] for name in expected} == pytest.approx(expected, rel=0.02)
    assert summary["tuned"] != summary["base"]
    with next(run_dir.rglob("metrics.csv")).open() as file:
        logged = set().union(*({key for key, value in row.items() if value} for row in csv.DictReader(file)))
    assert {"reward/Brightness", "eval/reward/Brightness", "shaping/bonus", "diversity/pairwise_distance"} <= logged
    assert {"eval/contrast", "eval/FarthestPair"} <= logged
