"""Tiers of the benchmark's plan with made-up results."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark_page import BEGIN, BEGIN_TABLE, END, END_TABLE
from made_up_evaluations import make_point, write_file
from plan import Tier
from run import Queue

MADE_BY = {"protocol": 2, "commit": "abc"}
EMPTY_PAGE = f"{BEGIN_TABLE}\n{END_TABLE}\n{BEGIN}\n{END}\n"


def stored(tmp_path: Path, tier: Tier, made_by: dict[str, Any] | None = None) -> Queue:
    """Every run of a tier, whose rewards go from 0 to 1 by way of 0.5; diversity from 1 to 0.5 by way of 0.75.

    Other methods than the baseline have 1.2 times its diversity after training; no prompt or seed differs.
    """
    queue = Queue(tmp_path / "runs", tmp_path / "results", made_by=made_by or MADE_BY)
    for job in tier.jobs:
        more = 1.0 if job.method == tier.baseline else 1.2
        points = [
            make_point(
                at,
                [reward] * 2,
                valid_pairwise_distance=[diversity] * 2,
                pairwise_lpips=0.02,
                heldout_jpeg_compressibility=-1 - reward,
            )
            for at, reward, diversity in ((0, 0.0, 1.0), (16, 0.5, 0.75 * more), (48, 1.0, 0.5 * more))
        ]
        made = write_file(tmp_path / "made", job.method, job.seed, points)
        queue.store.keep(job, made / "evaluation.json", 6.0)
    queue.store.gather(tier)
    return queue


def short(tier: Tier, methods: tuple[str, ...] = ("flowgrpo", "drift_plus_nft", "nft_kl_0.1")) -> Tier:
    jobs = tuple(job for job in tier.jobs if job.method in methods)
    return replace(tier, methods=methods, against=("nft_kl_0.1",), jobs=jobs)
