"""A long run holds no more at its end than after its first iterations: memory, open files, threads.

The whole campaign, 500 iterations in one process: `python -m pytest tests/campaign/test_long_run.py -m slow -s`.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from campaign.server import Server, lines
from runs import TinyWorld

KB = 1024
SETTINGS = ("trainer.save_every=5", "trainer.logger=[csv,tensorboard]", "trainer.progress=true")


def watched(server: Server, world: TinyWorld, folder: Path, iterations: int, every: int) -> dict[str, np.ndarray]:
    """What a run holds at the start of each iteration.

    Args:
        every: iterations between evaluations; the first ones belong to the warm-up.
    """
    hook = {"file": str(folder / "held.jsonl"), "root": str(folder / "run")}
    argv = [*world.overrides(), *SETTINGS, f"trainer.iterations={iterations}"]
    argv += [f"evaluation.every={every}", f"run_dir={folder / 'run'}"]
    ended = server.fit(*argv, hooks={"campaign.watching:install": hook}, limit_s=1800)
    assert ended.status == 0, ended.stderr
    held = [json.loads(line) for line in (folder / "held.jsonl").read_text().splitlines()]
    assert len(held) == iterations
    return {name: np.array([one[name] for one in held], dtype=np.float64) for name in held[0]}


def slope(values_N: np.ndarray, warm_up: int) -> float:
    """Of the least squares line through what follows the warm-up, per 100 iterations."""
    rest = values_N[warm_up:]
    return float(np.polyfit(np.arange(len(rest)), rest, 1)[0]) * 100


def report(held: dict[str, np.ndarray], warm_up: int) -> str:
    rows = [("", "after warm-up", "at the end", "most", "slope per 100 iterations")]
    for name, values in held.items():
        cells = (values[warm_up], values[-1], values.max(), slope(values, warm_up))
        rows.append((name, *(f"{value:.1f}" for value in cells)))
    return lines(rows)


def check(held: dict[str, np.ndarray], warm_up: int, resident_kb: float) -> None:
    """
    Args:
        resident_kb: bound of the slope of the resident memory, per 100 iterations.
    """
    for name in ("files", "threads", "tasks"):
        assert held[name][-1] <= held[name][warm_up:].min() + 1, name
        assert abs(slope(held[name], warm_up)) < 0.5, name
    assert slope(held["resident"], warm_up) < resident_kb * KB
    for name in ("csv", "tensorboard"):  # as much per iteration in the second half as in the first
        first, second = np.array_split(np.diff(held[name][warm_up:]), 2)
        assert second.mean() < 1.1 * first.mean(), name


def test_thirty_iterations(server: Server, world: TinyWorld, tmp_path: Path) -> None:
    held = watched(server, world, tmp_path, 30, every=5)
    print(f"\n{report(held, 10)}")
    check(held, 10, resident_kb=20_000)


@pytest.mark.slow
def test_long_run(server: Server, world: TinyWorld, tmp_path: Path) -> None:
    held = watched(server, world, tmp_path, 500, every=20)
    print(f"\n{report(held, 100)}")
    check(held, 100, resident_kb=500)
