"""`python -m drift_pl.report` on made-up runs whose figures are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from drift_pl.report import main


def make_run(folder: Path, experiment: str, seed: int, reward: float, test_prompts: int = 2) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    values = {"reward": reward, "pairwise_distance": 0.25, "vendi": 3.0}
    summary = {"experiment": experiment, "seed": seed, "encoder": "e", "test_prompts": test_prompts, "images": 64}
    summary |= {"images_per_prompt": 4, "base": {**values, "reward": 0.5}, "tuned": values}
    (folder / "summary.json").write_text(json.dumps(summary))
    history = [{"iteration": step, **values} for step in (0, 10)]
    (folder / "evaluation" / "history.json").write_text(json.dumps({"history": history}))
    for which in ("base", "tuned"):
        np.savez(folder / "evaluation" / f"{which}.npz", grid=np.zeros((2, 3, 3, 8, 8), np.uint8))
    return folder


def test_means_and_spreads_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Rewards 0.6 and 0.8: mean 0.7, standard deviation of two 0.1414."""
    runs = [make_run(tmp_path / str(seed), "drift", seed, reward) for seed, reward in ((0, 0.6), (1, 0.8))]
    runs.append(make_run(tmp_path / "plain", "plain", 0, 0.9))
    assert main([*map(str, runs), f"out={tmp_path / 'out'}"]) == 0
    out = capsys.readouterr().out
    assert "| base | | 0.500 |" in out
    assert "| `drift` | 2 | 0.700 +- 0.141 | 0.250 +- 0.000 |" in out
    assert "| `plain` | 1 | 0.900 | 0.250 | 3.000 |" in out
    assert (tmp_path / "out" / "report.png").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())["drift"]) == 2


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first = make_run(tmp_path / "a", "drift", 0, 0.6)
    cases = {
        "differ in test_prompts": make_run(tmp_path / "b", "plain", 0, 0.6, test_prompts=3),
        "a seed comes twice": make_run(tmp_path / "c", "drift", 0, 0.6),
        "has no summary.json": tmp_path / "nothing",
    }
    for message, second in cases.items():
        assert main([str(first), str(second), f"out={tmp_path / 'out'}"]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
