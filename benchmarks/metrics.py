"""Speed of the diversity measures against the public ones, on equal input, with equal results.

    python benchmarks/metrics.py [out=FILE] [repeats=7]

Mean pairwise LPIPS of 64 images against torchmetrics' network pair by pair (goal: at least 20 times as fast), and the
Vendi score of 8 groups against vendi-score's `score_K` of the same kernel (never slower) and its `score` with a
similarity function (at least 5 times as fast). Ratios are medians over interleaved pairs of CPU times of the main
thread, on one torch thread. Results must be equal to 1e-5. Needs the packages of the tests.
"""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drift_pl.functional.diversity import cosine_kernel, vendi_score
from drift_pl.scoring.encoders import LpipsEncoder

LPIPS = "pkg:drift_pl.builtin/weights/lpips"
IMAGES, SIDE = 64, 64
PROMPTS, WIDTH = 8, 768
GROUPS = (16, 64, 128, 256)
CLOSE = 1e-5


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.thread_time()
    result = work()
    return time.thread_time() - began, result


def compare(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Medians of seconds and of the ratio theirs / ours, and the largest relative difference of results."""
    ours(), theirs()
    pairs = [(seconds_of(ours), seconds_of(theirs)) for _ in range(repeats)]
    own, other = (np.asarray(pairs[0][side][1], dtype=float) for side in (0, 1))
    return {
        "ours_ms": 1000 * statistics.median(mine for (mine, _), _ in pairs),
        "theirs_ms": 1000 * statistics.median(other for _, (other, _) in pairs),
        "ratio": statistics.median(other / mine for (mine, _), (other, _) in pairs),
        "difference": float(np.max(np.abs(own - other) / np.abs(other))),
    }


def pair_by_pair(encoder: LpipsEncoder, images_S3HW: Tensor) -> float:
    """Mean LPIPS as torchmetrics' network computes it, one pair at a time; ours resizes images, theirs does not."""
    if encoder.resize is not None:
        assert images_S3HW.shape[-1] == encoder.resize
    with torch.no_grad():
        pairs = combinations(images_S3HW.split(1), 2)
        return float(torch.stack([encoder.net(*pair, normalize=True).flatten()[0] for pair in pairs]).double().mean())


def measure_lpips(repeats: int, number: int = IMAGES) -> dict[str, float]:
    encoder = LpipsEncoder(LPIPS)
    images = torch.rand(number, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return compare(lambda: encoder.mean_distance(images), lambda: pair_by_pair(encoder, images), repeats)


def measure_vendi(group: int, repeats: int) -> dict[str, dict[str, float]]:
    """Of P groups of embeddings, against both functions of vendi-score."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it reads scipy by a name that scipy has deprecated
        from vendi_score import vendi

        embedding = torch.randn(PROMPTS, group, WIDTH, generator=torch.Generator().manual_seed(0)).double()
        unit, kernels = torch.nn.functional.normalize(embedding, dim=-1).numpy(), cosine_kernel(embedding)
        rows, each = [list(samples) for samples in unit], list(kernels.numpy())
        score_k = compare(lambda: vendi_score(kernels), lambda: [vendi.score_K(kernel) for kernel in each], repeats)
        score = compare(
            lambda: vendi_score(cosine_kernel(embedding)), lambda: [vendi.score(own, np.dot) for own in rows], repeats
        )
    return {"score_K": score_k, "score": score}


def main(argv: Sequence[str]) -> None:
    torch.set_num_threads(1)
    given = {"repeats": "7", "out": ""} | dict(item.split("=", 1) for item in argv)
    repeats = int(given["repeats"])
    lpips = measure_lpips(min(repeats, 5))
    results: dict[str, Any] = {"lpips": {"images": IMAGES, **lpips}, "vendi": {}}
    lines = [f"LPIPS of {IMAGES} images: {lpips['ratio']:.0f} times pair by pair, differs by {lpips['difference']:.0e}"]
    for group in GROUPS:
        results["vendi"][group] = found = measure_vendi(group, repeats)
        texts = [f"{each['ratio']:.1f} times {name}" for name, each in found.items()]
        differs = max(each["difference"] for each in found.values())
        lines.append(f"Vendi score, {group} images per group: {', '.join(texts)}, differs by {differs:.0e}")
    print("\n".join(lines))
    worst = max(
        [lpips["difference"], *(one["difference"] for two in results["vendi"].values() for one in two.values())]
    )
    if given["out"]:
        Path(given["out"]).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    sys.exit(worst > CLOSE)


if __name__ == "__main__":
    main(sys.argv[1:])
