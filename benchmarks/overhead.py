"""Time of an iteration outside the networks' forward and backward passes.

    python benchmarks/overhead.py [experiment=NAME] [sizes=16,64,128] [iterations=6] [out=FILE] [KEY=VALUE ...]

Trains each group size for a few iterations with everything that a run does between two of them (monitor, logs,
checkpoints, Lightning's loop), and reports the share of an iteration that is spent neither in a `torch.nn.Module` nor
in `backward`: medians over all iterations but the first. Prompts are encoded before, as they are once in a run.

On a CPU the clock is the CPU time of the main thread, on one torch thread, so that other programs do not count; with
CUDA it is the wall time of an iteration against the time that the device spends in the networks. Goals: at most 4 %
with the built-in model at 16, 64 and 128 images per group, and at most 2 % with Stable Diffusion 3.5 Medium on an
accelerator (experiment=pickscore_div_fast sizes=24).
"""

import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import lightning as L
import torch
from torch import nn

from drift_pl.builders.run import build_run
from drift_pl.builders.scoring import prompts_of
from drift_pl.config.loading import parse
from drift_pl.training.reporting import IterationReport

OWN = {"experiment": "shapes_flowgrpo", "sizes": "16,64,128", "iterations": "6", "out": ""}
RUN = (
    *("trainer.logger=[csv]", "trainer.progress=false", "trainer.devices=1"),
    *("evaluation.seeds_per_prompt=2", "evaluation.max_prompts=1", "evaluation.every=0"),
)
REST = "callbacks"
"""What follows the last stage of a training step, until the next one begins."""


class Clock:
    """Time of everything, and within the outermost calls of networks and of `backward`.

    Attributes:
        inside_s: seconds in networks since the last lap.
    """

    def __init__(self, cuda: bool) -> None:
        self._cuda, self._depth = cuda, 0
        self._events: list[tuple[Any, Any]] = []
        self._inside_s, self._began = 0.0, self._now()

    def lap(self) -> tuple[float, float]:
        """Seconds since the last lap, and seconds of them in networks."""
        now = self._now()
        inside = self._inside_s + sum(start.elapsed_time(end) for start, end in self._events) / 1000
        lap = (now - self._began, inside)
        self._began, self._inside_s, self._events = now, 0.0, []
        return lap

    def counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose outermost calls count as networks."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            if self._depth:
                return function(*args, **kwargs)
            with self._inside():
                return function(*args, **kwargs)

        return counted

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it every network and every `backward` of the process is counted."""
        with ExitStack() as patches:
            patches.enter_context(mock.patch.object(nn.Module, "__call__", self.counting(nn.Module.__call__)))
            patches.enter_context(mock.patch("torch.autograd.backward", self.counting(torch.autograd.backward)))
            yield

    @contextmanager
    def _inside(self) -> Iterator[None]:
        self._depth = 1
        start = torch.cuda.Event(enable_timing=True) if self._cuda else time.thread_time()
        if self._cuda:
            start.record()
        try:
            yield
        finally:
            self._depth = 0
            if self._cuda:
                end = torch.cuda.Event(enable_timing=True)
                end.record()
                self._events.append((start, end))
            else:
                self._inside_s += time.thread_time() - start

    def _now(self) -> float:
        if not self._cuda:
            return time.thread_time()
        torch.cuda.synchronize()
        return time.perf_counter()


class Stages(L.Callback):
    """Laps of every stage of every iteration.

    Attributes:
        laps: stage -> one (seconds, seconds in networks) for each iteration.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock, self._begun = clock, False
        self.laps: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def mark(self, stage: str) -> None:
        self.laps[stage].append(self._clock.lap())

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        if self._begun:
            self.mark(REST)
        else:
            self._clock.lap()
        self._begun = True

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within it the laps of iterations are recorded."""
        lap = IterationReport.lap

        def lapped(report: IterationReport, stage: str) -> None:
            lap(report, stage)
            self.mark(stage)

        with mock.patch.object(IterationReport, "lap", lapped):
            yield


def measure(argv: Sequence[str], iterations: int) -> dict[str, Any]:
    """Medians of a run: seconds of an iteration and of its stages, and shares of them outside networks.

    Args:
        argv: as of `fit`, without a folder and a length.
        iterations: that count; one before them warms up, and one after them ends the last.
    """
    with tempfile.TemporaryDirectory() as folder:
        length = f"trainer.iterations={iterations + 2}"
        config = parse([*RUN, *argv, length, f"run_dir={folder}/run"]).config
        run = build_run(config, Path(folder) / "run")
        run.module.encode_prompts(prompts_of(config, "train"))  # once per run, however long
        clock = Clock(run.trainer.strategy.root_device.type == "cuda")
        stages = Stages(clock)
        run.trainer.callbacks.insert(0, stages)
        with clock.watching(), stages.watching():
            run.trainer.fit(run.module, datamodule=run.datamodule)
    laps = {name: times[1 : 1 + iterations] for name, times in stages.laps.items()}
    totals = [tuple(map(sum, zip(*parts, strict=True))) for parts in zip(*laps.values(), strict=True)]
    seconds = statistics.median(total for total, _ in totals)
    shares = sorted(1 - inside / total for total, inside in totals)
    outside = {name: statistics.median(t - inside for t, inside in times) / seconds for name, times in laps.items()}
    return {
        "seconds": seconds,
        "outside": statistics.median(shares),
        "outside_lowest_highest": [shares[0], shares[-1]],
        "outside_by_stage": outside,
    }


def main(argv: Sequence[str]) -> None:
    torch.set_num_threads(1)
    given = dict(item.split("=", 1) for item in argv)
    own = {name: given.pop(name, value) for name, value in OWN.items()}
    overrides = [f"{name}={value}" for name, value in given.items()]
    results = {}
    for size in own["sizes"].split(","):
        settings = [f"experiment={own['experiment']}", f"prompts.group_size={size}", *overrides]
        results[size] = found = measure(settings, int(own["iterations"]))
        parts = ", ".join(f"{name} {share:.2%}" for name, share in found["outside_by_stage"].items())
        print(f"{size} images per group: {found['outside']:.2%} of {found['seconds']:.2f} s ({parts})", flush=True)
    if own["out"]:
        content = {"experiment": own["experiment"], "overrides": overrides, "by_group_size": results}
        Path(own["out"]).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
