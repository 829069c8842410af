"""An iteration of the built-in model against a plain loop, and what its options are worth.

    python benchmarks/iteration.py [out=FILE] [repeats=5] [pairs=15] [parts=pair,options]

Three tables, each from one process whose contenders take turns, iteration by iteration: `training_step` and the whole
iteration against `speed/plain_loop.py`, with the gradients of every optimizer step compared bit by bit; the settings
that decide how many passes an iteration takes and how large they are; and the loop as published scripts write it. Ends
with status 1 if a gradient or weight differs in one bit.
"""

import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
from speed.plain_loop import Habits, PlainLoop
from speed.timing import finish, in_turn, options_of, ratio, rounded, seconds_of
from speed.turns import TrainingRun
from torch import Tensor

from drift_pl.builders.quiet import quieten

BASE = ("experiment=shapes_flowgrpo",)
HALF = ("prompts.per_iteration=4", "objective.updates=1")
"""For the table of settings: 64 images in one optimizer step, the same passes as the experiment's, half as many."""
ALL_STEPS = ("sampler.window_size=null", "sampler.window_range=[]")
GUIDED = ("policy.guidance_scale=4.5",)
OPTIONS: dict[str, tuple[str, ...]] = {
    "shapes_flowgrpo: micro-batch 64, window of 3, no guidance": (),
    "micro-batch 8": ("objective.micro_batch=8",),
    "micro-batch 32": ("objective.micro_batch=32",),
    "all 5 steps trained": ALL_STEPS,
    "guidance 4.5": GUIDED,
    "all 5 steps, guidance 4.5, micro-batch 8": (*ALL_STEPS, *GUIDED, "objective.micro_batch=8"),
    "compiled blocks": ("policy.compile=true",),
}
PEERS = "plain loop with the habits of published scripts, all 5 steps, guidance 4.5, micro-batch 8"


class Pair:
    """A training run and the plain loop of the same settings, in step with each other."""

    def __init__(self, run: TrainingRun, habits: Habits) -> None:
        self.run, module = run, run.run.module
        adapter = {name: parameter.detach().clone() for name, parameter in module.policy.trainable_parameters()}
        reward = module.score.rewards[0].reward
        self.loop = PlainLoop(run.config, reward, adapter, habits)
        self.done, self.optimizer_steps = 0, 0
        self.gradient_difference = self.weight_difference = 0.0

    def plain_seconds(self) -> float:
        """Of the plain loop's next iteration."""
        batch = self.run.run.datamodule.batch(self.done)
        start = self.run.run.module.sample.plan.window.steps(*batch.key)[0]
        self.done += 1
        return seconds_of(lambda: self.loop.iterate(batch.prompts, batch.key, batch.samples, start))

    def compare(self) -> None:
        """One iteration of both, untimed: every gradient that an optimizer steps with, and the weights afterwards."""
        module = self.run.run.module
        optimizer = module.optimizers().optimizer
        ours: list[list[Tensor]] = []
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        hook = optimizer.register_step_pre_hook(lambda *_: ours.append([p.grad.clone() for p in parameters]))
        self.loop.gradients = theirs = []
        self.run.iterate()
        self.plain_seconds()
        hook.remove()
        self.loop.gradients = None
        if len(ours) != len(theirs):
            raise AssertionError(f"{len(ours)} optimizer steps against {len(theirs)}")
        pairs = [pair for one, other in zip(ours, theirs, strict=True) for pair in zip(one, other, strict=True)]
        self.gradient_difference = max(self.gradient_difference, largest_difference(pairs))
        self.optimizer_steps += len(ours)
        self.compare_weights()

    def compare_weights(self) -> None:
        pairs = [(p, self.loop.trained[name]) for name, p in self.run.run.module.policy.trainable_parameters()]
        self.weight_difference = max(self.weight_difference, largest_difference(pairs))


def largest_difference(pairs: list[tuple[Tensor, Tensor]]) -> float:
    return max(float((one - other).detach().abs().max()) for one, other in pairs)


def against_plain_loop(repeats: int, overrides: tuple[str, ...] = (), habits: Habits | None = None) -> dict[str, Any]:
    """Ratios of the times, and the largest differences; the contenders train in lockstep throughout."""
    run = TrainingRun([*BASE, *overrides])
    pair = Pair(run, habits or Habits(run.config.objective.micro_batch))
    unseen = TrainingRun([*BASE, *overrides], monitored=False)
    pair.compare()
    steps: list[float] = []

    def whole() -> float:
        seconds = run.iterate()
        steps.append(run.step_seconds)
        return seconds

    contenders = {"whole": whole, "plain": pair.plain_seconds, "unseen": unseen.iterate_step}
    seconds = in_turn(contenders, repeats)
    pair.compare()
    run.close()
    unseen.close()
    plain = seconds["plain"]
    return {
        "training_step": ratio(steps[-repeats:], plain),
        "training_step_without_monitor": ratio(seconds["unseen"], plain),
        "whole_iteration": ratio(seconds["whole"], plain),
        "plain_seconds": statistics.median(plain),
        "optimizer_steps_compared": pair.optimizer_steps,
        "gradient_difference": pair.gradient_difference,
        "weight_difference": pair.weight_difference,
    }


def options_table(repeats: int, options: dict[str, tuple[str, ...]], size: tuple[str, ...] = HALF) -> dict[str, Any]:
    """Seconds of an iteration under each setting, and their ratio to the first; then the peers' loop beside them."""
    runs = {name: TrainingRun([*BASE, *size, *overrides]) for name, overrides in options.items()}
    first = next(iter(runs))
    habits = Habits(8, guidance_scale=4.5, window=0, encode_per_batch=True, judge_batch=1)
    peers = Pair(runs[first], habits)  # of the run it takes prompts and random numbers
    contenders: dict[str, Callable[[], float]] = {name: run.iterate for name, run in runs.items()}
    seconds = in_turn({**contenders, PEERS: peers.plain_seconds}, repeats)
    for run in runs.values():
        run.close()
    return {
        name: {"seconds": statistics.median(times), "ratio": ratio(times, seconds[first])}
        for name, times in seconds.items()
    }


def pair_table(pair: dict[str, Any]) -> list[str]:
    lines = ["| against the plain loop | median | smallest | largest | repeats |", "|---|---|---|---|---|"]
    for name in ("training_step", "training_step_without_monitor", "whole_iteration"):
        row = pair[name]
        cells = (f"{row[key]:.3f}" for key in ("median", "smallest", "largest"))
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} | {row['repeats']} |")
    differences = f"{pair['gradient_difference']:g}, of a weight {pair['weight_difference']:g}"
    compared = pair["optimizer_steps_compared"]
    return [*lines, f"\n{compared} optimizer steps compared: largest difference of a gradient {differences}\n"]


def options_lines(options: dict[str, Any]) -> list[str]:
    lines = ["| setting | CPU s per iteration | times the first |", "|---|---|---|"]
    return lines + [
        f"| {name} | {row['seconds']:.2f} | {row['ratio']['median']:.2f} |" for name, row in options.items()
    ]


def main(argv: list[str]) -> int:
    options = options_of(argv, pairs=15, parts="pair,options")
    parts = options["parts"].split(",")
    quieten()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"clock": "CPU seconds of one thread"}
    lines: list[str] = []
    differs = False
    if "pair" in parts:
        pair = result["against_plain_loop"] = against_plain_loop(options["pairs"])
        lines += pair_table(pair)
        differs = pair["gradient_difference"] != 0 or pair["weight_difference"] != 0
    if "options" in parts:
        result["options"] = options_table(options["repeats"], OPTIONS)
        lines += options_lines(result["options"])
    finish(rounded(result), lines, options["out"])
    return int(differs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
