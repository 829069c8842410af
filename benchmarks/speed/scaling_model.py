"""Iterations on 8, 64 and 512 GPUs: calculated from counted FLOPs and bytes, not measured.

    t = FLOPs / (GPUs x peak x share of the peak) + what the exchange of gradients or parameters takes longer

All GPUs have the same share of the images and the same speed; the share of the peak does not fall with smaller batches.
Evaluation, checkpoints and rewards by other machines are left out.
"""

import math
from dataclasses import dataclass
from typing import Any

from limit import denoiser_of, work_of

from drift_pl.config.batches import derive_batches
from drift_pl.config.loading import parse

GPUS = (8, 64, 512)
EXPERIMENTS = ("pickscore_div", "flux_pickscore_div")
SHARE_OF_PEAK = 0.4
"""Of a good trainer; 0.35 is this package's goal on an H100."""


@dataclass(frozen=True)
class Cluster:
    """H100s in nodes of eight.

    Attributes:
        peak, float32_peak: FLOP/s of one, dense, in bfloat16 and TF32.
        inside, between: bytes/s that a GPU sends to others of its node and to other nodes, as achieved: NVLink 4 has
            450 GB/s, a network of one 400 Gb/s link per GPU has 50 GB/s.
        latency: seconds of a step of an exchange.
    """

    peak: float = 989e12
    float32_peak: float = 494.5e12
    node: int = 8
    inside: float = 300e9
    between: float = 40e9
    latency: float = 20e-6

    def ring(self, size: float, gpus: int) -> float:
        """Seconds to gather or to scatter `size` bytes over all GPUs; a sum of gradients takes two of them."""
        speed = self.inside if gpus <= self.node else self.between
        return (gpus - 1) / gpus * size / speed + self.latency * math.ceil(math.log2(gpus))


def iteration(experiment: str, gpus: int, strategy: str, weak: bool, cluster: Cluster | None = None) -> dict[str, Any]:
    """Seconds of an iteration, and the share of them that the exchange takes.

    Args:
        strategy: `ddp`: an adapter's gradients are summed once per optimizer step. `fsdp`: every pass gathers the
            frozen weights in bfloat16 while the pass before computes, and a backward pass gathers them again.
        weak: images grow with the GPUs, from the experiment's own on 8; else they are the experiment's own.
    """
    cluster, config = cluster or Cluster(), parse([f"experiment={experiment}"]).config
    batches, work, network, objective = derive_batches(config), work_of(config), denoiser_of(config), config.objective
    images = batches.images_per_iteration * (gpus / GPUS[0] if weak else 1)
    factor = images / batches.images_per_iteration / gpus
    micro_batches = images / gpus / objective.micro_batch
    if micro_batches < 1:
        most = batches.images_per_iteration // objective.micro_batch
        return {"gpus": gpus, "refused": f"fewer images than GPUs x micro-batch: at most {most} GPUs"}
    denoising = work.denoiser * factor / SHARE_OF_PEAK / cluster.peak
    rest = (work.decode + work.score) * factor / SHARE_OF_PEAK / cluster.float32_peak
    steps = batches.optimizer_steps_per_iteration
    gradients = steps * 2 * cluster.ring(4.0 * network.trained, gpus)
    waiting = 0.0
    if strategy == "fsdp":
        passes = math.ceil(micro_batches) * gathers_per_micro_batch(experiment)
        waiting = max(0.0, passes * cluster.ring(2.0 * network.parameters, gpus) - denoising)
    seconds = denoising + rest + gradients + waiting
    return {
        "gpus": gpus,
        "images": round(images),
        "seconds": seconds,
        "images_per_s_per_gpu": images / gpus / seconds,
        "exchange_share": (gradients + waiting) / seconds,
    }


def gathers_per_micro_batch(experiment: str) -> int:
    """How often FSDP2 gathers the weights: once in a pass without gradient, twice in one with it."""
    config = parse([f"experiment={experiment}"]).config
    trained = derive_batches(config).trained_steps * config.objective.inner_epochs
    return config.sampler.steps + trained * (2 + (config.objective.kl_weight > 0))


def calculated() -> dict[str, Any]:
    """Rows of the table, by experiment, strategy and kind of scaling."""
    return {
        f"{experiment}, {strategy}, {'weak' if weak else 'strong'}": [
            iteration(experiment, gpus, strategy, weak) for gpus in GPUS
        ]
        for experiment in EXPERIMENTS
        for strategy in ("ddp", "fsdp")
        for weak in (False, True)
    }


def table(rows: dict[str, Any]) -> list[str]:
    lines = [
        f"Calculated, not measured: H100s, {SHARE_OF_PEAK:.0%} of the peak\n",
        "| experiment, strategy, scaling | GPUs | images | s per iteration | images/s per GPU | exchange |",
        "|---|---|---|---|---|---|",
    ]
    for name, points in rows.items():
        for row in points:
            if "refused" in row:
                lines.append(f"| {name} | {row['gpus']} | {row['refused']} | | | |")
                continue
            cells = f"{row['seconds']:.1f} | {row['images_per_s_per_gpu']:.2f} | {row['exchange_share']:.1%}"
            lines.append(f"| {name} | {row['gpus']} | {row['images']} | {cells} |")
    return lines
