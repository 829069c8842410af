"""Cost of selection, shaping and metrics, relative to an iteration of the built-in model.

    python benchmarks/overhead.py [out=FILE]

Times P = 8 groups of G = 24 images with embeddings of 768 numbers on one thread, and the iterations of a short run of
shapes_drift in the same process: medians, as shares of the iteration's median. Absolute times depend on the machine.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from drift_pl.config.loading import parse
from drift_pl.fit import fit
from drift_pl.functional.diversity import (
    cosine_kernel,
    mean_nearest_distance,
    mean_pairwise_distance,
    rke_score,
    vendi_score,
)
from drift_pl.incentive.selection import Band, MaxVariance, MinVariance, NearMedian, Quantile
from drift_pl.incentive.shaping import DiversityShaping

PROMPTS, GROUP, WIDTH = 8, 24, 768
REPEATS = 30
RUN = ["trainer.iterations=5", "evaluation.seeds_per_prompt=2", "evaluation.every=0", "evaluation.max_prompts=1"]


def median_seconds(work: Callable[[], object]) -> float:
    """Median over `REPEATS` calls, after three warm-up calls."""
    times = []
    for _ in range(REPEATS + 3):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times[3:])


def candidates() -> dict[str, Callable[[], object]]:
    generator = torch.Generator().manual_seed(0)
    reward_PG = torch.randn(PROMPTS, GROUP, generator=generator)
    embedding_PGD = torch.nn.functional.normalize(torch.randn(PROMPTS, GROUP, WIDTH, generator=generator), dim=-1)
    valid_PG = torch.ones(PROMPTS, GROUP, dtype=torch.bool)
    rules = {
        "band": Band(2.0),
        "quantile": Quantile(0.0, 0.9),
        "min_variance": MinVariance(18),
        "median": NearMedian(18),
        "max_variance": MaxVariance(18),
    }
    work: dict[str, Callable[[], object]] = {
        f"selection {name}": lambda rule=rule: rule(reward_PG) for name, rule in rules.items()
    }
    for potential in ("mean", "nearest", "logdet", "vendi"):
        shaping = DiversityShaping(1.0, potential=potential)
        work[f"shaping {potential}"] = lambda shaping=shaping: shaping(embedding_PGD, valid_PG, 10, reward_PG)
    work["pairwise distance"] = lambda: mean_pairwise_distance(1 - cosine_kernel(embedding_PGD))
    work["nearest distance"] = lambda: mean_nearest_distance(1 - cosine_kernel(embedding_PGD))
    work["Vendi score"] = lambda: vendi_score(cosine_kernel(embedding_PGD))
    work["RKE"] = lambda: rke_score(cosine_kernel(embedding_PGD))
    return work


def iteration_seconds() -> float:
    """Median iteration of the built-in model, without the first."""
    with tempfile.TemporaryDirectory() as folder:
        argv = ["experiment=shapes_drift", f"run_dir={folder}/run", "trainer.logger=[csv]", "trainer.progress=false"]
        run_dir = fit(parse([*argv, *RUN]).config)
        lines = (run_dir / "csv" / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    parts = [[row[f"time/{part}_s"] for part in ("rollout", "judges", "update")] for row in rows]
    return statistics.median(sum(map(float, row)) for row in parts[1:] if all(row))


def main(argv: list[str]) -> None:
    torch.set_num_threads(1)
    iteration = iteration_seconds()
    shares = {name: median_seconds(work) / iteration for name, work in candidates().items()}
    lines = ["| part | share of an iteration |", "|---|---|"]
    lines += [f"| {name} | {share:.3%} |" for name, share in shares.items()]
    print("\n".join(lines))
    out = next((item.removeprefix("out=") for item in argv if item.startswith("out=")), None)
    if out:
        Path(out).write_text(
            json.dumps({"prompts": PROMPTS, "group": GROUP, "width": WIDTH, "share": shares}, indent=2)
        )


if __name__ == "__main__":
    main(sys.argv[1:])
