"""How much of the reward's signal the levers of a run leave in its advantages, in fresh groups of its checkpoints.

    python benchmarks/fronts/lever_signal.py RUN RUN --beside PLAIN_RUN --out docs/results/benchmark/levers.json
    python benchmarks/fronts/lever_signal.py RUN --also incentive.selection.rule=none --also incentive.shaping.weight=5

A policy gradient is sum_i A_i g_i over images. With P the advantages that the same images have without levers, A is
reduced to two numbers, over all images of all groups:

    slope   <A, P> / <P, P>      how much of the reward's gradient is left
    cosine  <A, P> / (|A| |P|)   the same per length of a step, if the g_i are independent and of one length: an
                                 optimizer such as Adam takes steps of one length however large the gradient is

Each is given for selection alone, for the bonus alone and for both, as trained and under further settings (`--also`).
A second table has how fast these runs have learnt, and others `--beside` them, from their `csv/metrics.csv`.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from learning import learning, learning_table
from torch import Tensor

from drift_pl.builders.checkpoint_weights import load_weights, read_checkpoints
from drift_pl.builders.method import build_method
from drift_pl.builders.quiet import quieten
from drift_pl.builders.run import build_run
from drift_pl.config.checkpoints import CONFIG, find_checkpoints
from drift_pl.config.command import run_command
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.files import write_json
from drift_pl.core.types import Scores, Trajectory
from drift_pl.functional.advantage import masked_mean, masked_std
from drift_pl.incentive.method import Method
from drift_pl.incentive.selection import KeepAll, selection_statistics
from drift_pl.training.module import DriftModule

FRESH = 10_000
"""Iteration from which groups are drawn: beyond those of a run."""
TRAINED = "as trained"
READ_OFF = ("incentive.selection.", "incentive.shaping.")
EMBEDDED = ("incentive.shaping.encoder", "incentive.shaping.form")


class Groups(NamedTuple):
    """An iteration's worth of groups of a checkpoint, as sampled and scored."""

    scores: Scores
    trajectory: Trajectory


def signal(advantage_PG: Tensor, plain_PG: Tensor) -> dict[str, float]:
    """`slope` and `cosine` of the module's docstring; both are 0 where no advantage is left."""
    advantage_PG, plain_PG = advantage_PG.double(), plain_PG.double()
    common = (advantage_PG * plain_PG).sum()
    own, plain = advantage_PG.square().sum(), plain_PG.square().sum()
    return {"slope": float(common / plain), "cosine": float(common / (own * plain).sqrt()) if own > 0 else 0.0}


def correlation(first_PG: Tensor, second_PG: Tensor) -> float:
    """Within groups, over all of them: of what is left of both when each group's mean is subtracted."""
    everything_PG = torch.ones_like(first_PG, dtype=torch.bool)
    first_PG, second_PG = (each - masked_mean(each, everything_PG) for each in (first_PG.double(), second_PG.double()))
    return float((first_PG * second_PG).sum() / (first_PG.square().sum() * second_PG.square().sum()).sqrt())


def effective_share(advantage_PG: Tensor) -> float:
    """(sum |A|)^2 / sum A^2 as a share of the images: 1 if all weigh alike, 1 / n if one has everything."""
    size = advantage_PG.abs().double()
    return float(size.sum().square() / size.square().sum().clamp(min=1e-12) / size.numel())


def describe(method: Method, groups: Sequence[Groups]) -> dict[str, Any]:
    """What a method makes of groups whose images all have a reward.

    Returns:
        `selection`, `bonus` and `both`: see `signal`; `bonus_correlation` with the reward, None without a bonus;
        `kept`, `best_dropped`, `worst_dropped`: shares of images and of groups; `effective_images`: see
        `effective_share`, of both levers.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in ("plain", "selection", "bonus", "both")}
    rewards, bonuses, kept = [], [], []
    spread = torch.cat([_spread(each.scores) for each in groups]).median()
    for scores, trajectory in groups:
        reward_PG = method.effective_reward(scores)
        all_PG, kept_PG = KeepAll()(reward_PG), method.selection(reward_PG)
        bonus_PG = method.bonus(scores, trajectory)
        levers = {"plain": (all_PG, None), "selection": (kept_PG, None), "bonus": (all_PG, bonus_PG)}
        for name, (chosen_PG, added_PG) in {**levers, "both": (kept_PG, bonus_PG)}.items():
            given = (scores, reward_PG, chosen_PG, added_PG, reward_PG.std(correction=0), spread)
            parts[name].append(method.advantage(*given))
        rewards.append(reward_PG)
        kept.append(kept_PG)
        bonuses += [] if bonus_PG is None else [bonus_PG]
    whole = {name: torch.cat(each) for name, each in parts.items()}
    reward_PG, kept_PG = torch.cat(rewards), torch.cat(kept)
    return {
        **{name: signal(whole[name], whole["plain"]) for name in ("selection", "bonus", "both")},
        "bonus_correlation": correlation(torch.cat(bonuses), reward_PG) if bonuses else None,
        "kept": float(kept_PG.double().mean()),
        "best_dropped": float(selection_statistics(reward_PG, kept_PG)["best_dropped"].mean()),
        "worst_dropped": float(selection_statistics(-reward_PG, kept_PG)["best_dropped"].mean()),
        "effective_images": effective_share(whole["both"]),
    }


def sample(module: DriftModule, data: Any, iterations: int) -> list[Groups]:
    """Groups of the run's training prompts from the weights that the policy holds now.

    Raises:
        UserError: a reward scored an image NaN.
    """
    found = []
    for iteration in range(FRESH, FRESH + iterations):
        batch = data.batch(iteration)
        with torch.no_grad(), module.score.calls(batch) as calls:
            _, trajectory = module.sample(batch, module.device, calls.take)
            found.append(Groups(module.score(trajectory, batch, calls), trajectory))
        if not found[-1].scores.reward_PG.isfinite().all():
            raise UserError("an image has no reward: signals are of groups whose images all have one")
    return found


def refuse_without_levers(config: Config, run_dir: Path) -> None:
    """
    Raises:
        UserError: the run has neither selection nor shaping, another method in its place, or a bonus for each step.
    """
    incentive = config.incentive
    if incentive.shaping.form == "per_step" and incentive.shaping.weight:
        raise UserError(
            f"{run_dir} has a bonus for each step: signals are of the image's, incentive.shaping.form=terminal"
        )
    if incentive.method != "drift" or (incentive.selection.rule == "none" and not incentive.shaping.weight):
        raise UserError(f"{run_dir} has neither selection nor shaping: give a run with levers, e.g. of shapes_div")


def measure(run: Path, also: Sequence[str], iterations: int) -> list[dict[str, Any]]:
    """A row per checkpoint, the base model first.

    Raises:
        UserError: the run has no checkpoints, or its method no levers.
    """
    run_dir, paths = find_checkpoints([str(run)])
    settings = [f"experiment={run_dir / CONFIG}"]
    config = parse(settings).config
    refuse_without_levers(config, run_dir)
    with tempfile.TemporaryDirectory() as folder:
        built = build_run(config, Path(folder) / "run")
    module, data = built.module, built.datamodule
    methods = {TRAINED: module.method}
    methods |= {each: build_method(_changed(settings, each)) for each in also}
    rows = []
    for checkpoint in [None, *read_checkpoints(paths, run_dir / CONFIG, "live")]:
        if checkpoint is not None:
            load_weights(dict(module.policy.trainable_parameters()), checkpoint)
        groups = sample(module, data, iterations)
        reward = torch.cat([each.scores.reward_PG for each in groups]).mean()
        row = {"run": run_dir.name, "iteration": checkpoint.iteration if checkpoint else 0, "reward": float(reward)}
        rows.append({**row, "methods": {name: describe(method, groups) for name, method in methods.items()}})
        print(f"{run_dir.name}  iteration {row['iteration']}", flush=True)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Means over runs, a line per iteration and method."""
    lines = [
        "| iteration | settings | slope: selection | bonus | both | cosine: selection | bonus | both "
        "| bonus and reward | best dropped | worst dropped | effective images |",
        "|---" * 12 + "|",
    ]
    for iteration in sorted({row["iteration"] for row in rows}):
        same = [row["methods"] for row in rows if row["iteration"] == iteration]
        for name in same[0]:
            found = [each[name] for each in same]
            cells = [
                f"{_mean([each[part][kind] for each in found]):.2f}"
                for kind in ("slope", "cosine")
                for part in ("selection", "bonus", "both")
            ]
            if found[0]["bonus_correlation"] is None:
                cells.append("")
            else:
                cells.append(f"{_mean([each['bonus_correlation'] for each in found]):+.2f}")
            shares = ("best_dropped", "worst_dropped", "effective_images")
            cells += [f"{_mean([each[share] for each in found]):.2f}" for share in shares]
            lines.append(f"| {iteration} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _changed(settings: Sequence[str], also: str) -> Config:
    """
    Raises:
        UserError: it is a setting that needs other images or other embeddings.
    """
    for item in also.split():
        if not item.startswith(READ_OFF) or item.startswith(EMBEDDED):
            raise UserError(
                f"--also {item}: only settings of selection and shaping are read off the same images, but for encoders "
                "and form, e.g. --also incentive.selection.rule=none"
            )
    return parse([*settings, *also.split()]).config


def _spread(scores: Scores) -> Tensor:
    return masked_std(scores.reward_PG, scores.reward_PG.isfinite()).flatten()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs with checkpoints")
    parser.add_argument(
        "--also", action="append", default=[], help="further settings of the levers, KEY=VALUE KEY=VALUE"
    )
    parser.add_argument("--beside", nargs="*", default=[], type=Path, help="runs without levers, for the second table")
    parser.add_argument("--first", type=int, help="iterations of a run that the second table looks at; none: all")
    parser.add_argument("--iterations", type=int, default=4, help="iterations' worth of groups per checkpoint")
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args(argv)
    if options.iterations < 1:
        raise UserError(f"--iterations {options.iterations}: give at least 1")
    quieten()
    learnt = [learning(run, options.first) for run in (*options.runs, *options.beside)]
    rows = [row for run in options.runs for row in measure(run, options.also, options.iterations)]
    if options.out is not None:
        write_json(options.out, {"signal": rows, "learning": learnt})
    print(table(rows), learning_table(learnt), sep="\n\n")


def main(argv: list[str]) -> int:
    """The command; returns its exit status."""
    return run_command(_main, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
