"""One configuration on one device: two iterations, of which the second is measured."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from card.models import random_policy, shrink
from limit import Work, work_of
from overhead import Clock, Stages

from drift_pl.builders import run as building
from drift_pl.builders.quiet import quieten
from drift_pl.builders.scoring import prompts_of
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config
from drift_pl.training.callbacks import HeldOutEvaluation
from drift_pl.training.reporting import IterationReport

GROUP = 8
STAGES = ("rollout", "judges", "update")
RUN = (
    *("trainer.iterations=2", "trainer.logger=[]", "trainer.progress=false", "trainer.devices=1"),
    *("evaluation.every=0", "evaluation.max_prompts=1", "evaluation.seeds_per_prompt=2"),
    "evaluation.measures=[]",
)
TINY = ("policy.resolution=64", "sampler.steps=4", "sampler.window_size=2", "sampler.window_range=[0,3]")
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L40S": 362.0, "RTX 4090": 165.0, "RTX 3090": 71.0}
"""Part of a device's name -> dense peak of bfloat16 in its maker's data sheet, with accumulation in float32."""


class PeakMemory(Stages):
    """Laps of every stage, and the most memory that was in use within each.

    Attributes:
        peaks: stage -> bytes, one for each iteration.
    """

    def __init__(self, clock: Clock, cuda: bool) -> None:
        super().__init__(clock)
        self._cuda = cuda
        self.peaks: dict[str, list[int]] = {}

    def mark(self, stage: str) -> None:
        super().mark(stage)
        if self._cuda:
            self.peaks.setdefault(stage, []).append(torch.cuda.max_memory_allocated())
            torch.cuda.reset_peak_memory_stats()


@contextmanager
def denoiser_counted(network: Any, clock: Clock) -> Iterator[None]:
    """Within it the clock counts what the denoiser takes: its forward passes, and every backward pass."""
    forward, backward = clock.counting(network.forward), clock.counting(torch.autograd.backward)
    with mock.patch.object(network, "forward", forward), mock.patch("torch.autograd.backward", backward):
        yield


def measure(settings: Sequence[str], images: int, tiny: bool) -> dict[str, Any]:
    """Speed, memory, the share of time in the denoiser and the share of the accelerator's peak.

    Args:
        settings: of an experiment, as on the command line of `fit`.
        images: of an iteration.
        tiny: on the CPU, with networks of next to no size.
    """
    device = torch.device("cpu" if tiny else "cuda")
    if tiny:
        shrink()
    group = 2 if tiny else GROUP
    sizes = (f"prompts.per_iteration={images // group}", f"prompts.group_size={group}")
    place = f"trainer.accelerator={'cpu' if tiny else 'gpu'}"
    quieten()
    with tempfile.TemporaryDirectory() as folder:
        given = [*settings, *sizes, *RUN, place, *(TINY if tiny else ()), f"run_dir={folder}/run"]
        config = parse(given).config
        policy = random_policy(config, device)
        held = torch.cuda.memory_allocated() if not tiny else 0
        with mock.patch.object(building, "build_policy", return_value=policy):
            run = building.build_run(config, Path(folder) / "run")
        run.module.encode_prompts(prompts_of(config, "train"))
        clock = Clock(not tiny)
        stages = PeakMemory(clock, not tiny)
        run.trainer.callbacks.insert(0, stages)
        metrics = kept_metrics(run.module)
        with denoiser_counted(policy.network, clock), stages.watching(), no_evaluation():
            run.trainer.fit(run.module, datamodule=run.datamodule)
    return {"weights_bytes": held, **result(config, stages, metrics, images)}


def kept_metrics(module: Any) -> dict[str, float]:
    """A dictionary that the metrics of every iteration are written into."""
    metrics: dict[str, float] = {}
    publish = module.publish

    def keep(report: IterationReport) -> dict[str, float]:
        metrics.update(publish(report))
        return metrics

    module.publish = keep
    return metrics


@contextmanager
def no_evaluation() -> Iterator[None]:
    """Within it a run measures nothing before, in and after training."""
    nothing = dict.fromkeys(("on_train_start", "on_train_batch_end", "on_train_end"), lambda *_, **__: None)
    with mock.patch.multiple(HeldOutEvaluation, **nothing):
        yield


def result(config: Config, stages: PeakMemory, metrics: dict[str, float], images: int) -> dict[str, Any]:
    laps = {stage: stages.laps[stage][-1] for stage in STAGES}
    seconds = sum(total for total, _ in laps.values())
    denoiser_s = sum(inside for _, inside in laps.values())
    peaks = {stage: values[-1] for stage, values in stages.peaks.items()}
    return {
        "images": images,
        "seconds": {stage: total for stage, (total, _) in laps.items()},
        "images_per_s": {
            "iteration": images / seconds,
            **{stage: images / laps[stage][0] for stage in ("rollout", "update")},
        },
        "denoiser_seconds": {stage: inside for stage, (_, inside) in laps.items()},
        "denoiser_share": denoiser_s / seconds,
        "peak_bytes": max([*peaks.values(), *(value for values in stages.peaks.values() for value in values)] or [0]),
        "peak_bytes_by_stage": peaks,
        "reserved_bytes": torch.cuda.max_memory_reserved() if peaks else 0,
        "first_iteration_seconds": sum(stages.laps[stage][0][0] for stage in STAGES),
        "metrics": {name: metrics[name] for name in sorted(metrics) if name.startswith(("policy/", "selection/"))},
        **share_of_peak(work_of(config), metrics, seconds, denoiser_s),
    }


def share_of_peak(work: Work, metrics: dict[str, float], seconds: float, denoiser_s: float) -> dict[str, Any]:
    """Counted FLOPs per second; images that selection left out take none in the update."""
    trained = metrics.get("selection/kept_fraction", 1.0)
    denoiser = work.rollout + trained * (work.update + work.reference)
    total = denoiser + work.decode + work.score
    found: dict[str, Any] = {
        "tflops": {"denoiser": denoiser / denoiser_s / 1e12, "iteration": total / seconds / 1e12},
        "peak_tflops": None,
    }
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((value for part, value in PEAK_TFLOPS.items() if part in name), None)
    if peak is not None:
        found["peak_tflops"] = peak
        found["share_of_peak"] = {part: value / peak for part, value in found["tflops"].items()}
    return found
