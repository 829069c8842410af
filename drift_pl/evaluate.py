"""The command that measures checkpoints: `python -m drift_pl.evaluate ckpt_path=RUN_FOLDER [KEY=VALUE ...]`.

Measures a run's checkpoints and its base model on held-out prompts, writes `evaluation.json` point by point, and a
picture of the same noise through all of them.
"""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from drift_pl.builders.quiet import quieten
from drift_pl.config.batches import derive_batches
from drift_pl.config.checkpoints import CONFIG, find_checkpoints
from drift_pl.config.command import run_command
from drift_pl.config.evaluate_keys import EvaluateOptions
from drift_pl.config.help import read_options
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

if TYPE_CHECKING:  # `--help` and wrong keys answer without numpy and torch
    from drift_pl.builders.bench import Bench
    from drift_pl.builders.checkpoint_weights import Checkpoint
    from drift_pl.evaluation.evaluator import Evaluated
    from drift_pl.evaluation.record import Evaluation, Point
    from drift_pl.training.callbacks.evaluation import EvaluationPlan


@dataclass(frozen=True)
class Job:
    """A point to be measured, and the checkpoint that it is of (None: the base model)."""

    point: "Point"
    checkpoint: "Checkpoint | None"


def evaluate(options: EvaluateOptions) -> "Evaluation":
    """Measures what has not been measured yet, and returns all that the file holds then.

    Raises:
        UserError: something cannot be used, or the file is of another run or another protocol; nothing has been
            written then.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see `fit`
    run_dir, paths = find_checkpoints(options.ckpt_path)
    config = options.config(run_dir / CONFIG)
    quieten()
    from drift_pl.builders.bench import evaluation_plan
    from drift_pl.builders.checkpoint_weights import read_checkpoints
    from drift_pl.evaluation.base import read_base, with_base_of
    from drift_pl.evaluation.record import write_evaluation

    checkpoints = read_checkpoints(paths, run_dir / CONFIG, options.weights)
    plan = evaluation_plan(config, options.prompts)
    evaluation = _open(options, config, plan, run_dir, checkpoints[0].identity.rpartition("-s")[0])
    evaluation = replace(evaluation, points=_current(evaluation.points, checkpoints))
    base = read_base(Path(options.base), evaluation) if options.base else None
    jobs = _jobs(options, config, checkpoints)
    if _missing(jobs, evaluation, config):
        bench = _build_bench(options, config, plan)
        bench.refuse_other_runs(checkpoints, config.policy.lora.rank)
        if base is not None:
            evaluation = with_base_of(evaluation, base)
        evaluation = _measure(bench, _missing(jobs, evaluation, config), evaluation)
    write_evaluation(evaluation)
    _write_sheet(evaluation)
    return evaluation


def _open(
    options: EvaluateOptions, config: Config, plan: "EvaluationPlan", run_dir: Path, config_hash: str
) -> "Evaluation":
    """What the file holds already, of the same run and protocol; without points if there is none."""
    from drift_pl.builders.bench import describe_protocol, describe_training
    from drift_pl.evaluation.record import FILE_NAME, Evaluation, first_difference, read_evaluation

    experiment = Path(config.experiment).stem
    new = Evaluation(
        path=Path(options.out) if options.out else run_dir / FILE_NAME,
        method=options.method or experiment,
        experiment=experiment,
        seed=config.seed,
        config_hash=config_hash,
        training=describe_training(config),
        protocol=describe_protocol(config, plan, options.judges),
    )
    if options.fresh or not new.path.exists():
        return new
    earlier = read_evaluation(new.path)
    remedy = "give another file, e.g. out=evaluation-2.json, or replace it with fresh=true"
    if (earlier.config_hash, earlier.seed) != (config_hash, config.seed):
        runs = f"{earlier.config_hash}-s{earlier.seed}, and this one is {config_hash}-s{config.seed}"
        raise UserError(f"{new.path} is of the run {runs}: {remedy}")
    difference = first_difference(earlier.protocol, new.protocol)
    if difference:
        raise UserError(f"{new.path} was measured otherwise: {difference}; {remedy}")
    return replace(new, method=options.method or earlier.method, points=earlier.points)


def _current(points: Sequence["Point"], checkpoints: Sequence["Checkpoint"]) -> tuple["Point", ...]:
    """Points without those of checkpoints whose file holds other weights by now."""
    digests = {(checkpoint.path.name, checkpoint.weights): checkpoint.digest for checkpoint in checkpoints}
    return tuple(
        point for point in points if digests.get((str(point.checkpoint), point.weights), point.digest) == point.digest
    )


def _jobs(options: EvaluateOptions, config: Config, checkpoints: Sequence["Checkpoint"]) -> list[Job]:
    """The base model, and each checkpoint at each scale and power."""
    from drift_pl.evaluation.record import Point

    jobs = [Job(Point("base", None, 0, 0, "base", 1.0, None, {}, {}, None), None)]
    scales = options.lora_scale or [config.sampler.eval_lora_scale]
    powers = options.importance_power or [config.sampler.eval_importance_power]
    per_iteration = derive_batches(config).images_per_iteration
    for checkpoint, scale, power in product(checkpoints, scales, powers):
        name = checkpoint.path.stem + ("" if scale == 1 else f"-scale{scale:g}")
        name += ("" if power is None else f"-power{power:g}") + ("-live" if options.weights == "live" else "")
        point = replace(
            jobs[0].point,
            name=name,
            checkpoint=checkpoint.path.name,
            digest=checkpoint.digest,
            iteration=checkpoint.iteration,
            images=checkpoint.iteration * per_iteration,
            weights=checkpoint.weights,
            lora_scale=scale,
            importance_power=power,
        )
        jobs.append(Job(point, checkpoint))
    return jobs


def _missing(jobs: list[Job], evaluation: "Evaluation", config: Config) -> list[Job]:
    """Jobs that are not done; for measures of drift the base model once more, if its embeddings were not kept."""
    from drift_pl.evaluation.evaluator import DRIFT_MEASURES
    from drift_pl.evaluation.pictures import pictures_folder, read_array

    done = {point.identity() for point in evaluation.points}
    missing = [job for job in jobs if job.point.identity() not in done]
    drift = any(name in DRIFT_MEASURES for name in config.evaluation.extra)
    if not missing or missing[0] is jobs[0] or not drift:
        return missing
    kept = read_array(pictures_folder(evaluation.path), "base", "embedding") is not None
    return missing if kept else [jobs[0], *missing]


def _build_bench(options: EvaluateOptions, config: Config, plan: "EvaluationPlan") -> "Bench":
    from drift_pl.builders.bench import Bench
    from drift_pl.builders.hardware import choose_device

    return Bench(config, plan, options.judges, *choose_device(config))


def _measure(bench: "Bench", jobs: list[Job], evaluation: "Evaluation") -> "Evaluation":
    """Measures point by point; each is in the file as soon as it is done."""
    from drift_pl.evaluation.pictures import pictures_folder, read_array, save_point
    from drift_pl.evaluation.record import write_evaluation
    from drift_pl.reports.display import Progress, headline

    folder = pictures_folder(evaluation.path)
    with Progress(len(jobs), len(bench.plan.test_prompts)) as progress:
        for job in jobs:
            point = job.point
            bench.encode.begun = progress.begin(point.title())
            if job.checkpoint is None:
                evaluated = bench.base()
            else:
                reference = read_array(folder, "base", "embedding") if bench.evaluator.measures_drift else None
                evaluated = bench.point(job.checkpoint, point.lora_scale, point.importance_power, reference)
            picture = save_point(evaluated, point.title(), folder, point.name)
            point = _with_values(point, evaluated, str(picture.relative_to(evaluation.path.parent)))
            evaluation = evaluation.with_point(point)
            write_evaluation(evaluation)
            progress.end(headline(point))
    return evaluation


def _with_values(point: "Point", evaluated: "Evaluated", picture: str) -> "Point":
    from drift_pl.evaluation.record import Value, summarise

    per_prompt = {
        name: [value if math.isfinite(value) else None for value in value_P.tolist()]
        for name, value_P in evaluated.values.items()
    }
    values = {name: summarise(numbers) for name, numbers in per_prompt.items()}
    for name, value in evaluated.overall.items():  # of all prompts together: there is nothing to take an interval over
        values[name] = Value(value, None, None, len(evaluated.prompts))
    return replace(point, values=values, per_prompt=per_prompt, picture=picture)


def _write_sheet(evaluation: "Evaluation") -> None:
    """The picture of all points whose images were kept."""
    from drift_pl.evaluation.pictures import pictures_folder, read_array, save_sheet
    from drift_pl.reports.display import headline

    labels: list[str] = []
    grids: list = []
    for point in evaluation.points:
        grid = read_array(pictures_folder(evaluation.path), point.name, "grid")
        if grid is not None and (not grids or grid.shape == grids[0].shape):
            labels.append(f"{point.title()} {headline(point)}")
            grids.append(grid)
    if grids:
        save_sheet(labels, grids, evaluation.protocol["prompts"], pictures_folder(evaluation.path) / "all.png")


def _run(argv: list[str]) -> None:
    options = read_options(EvaluateOptions, argv)
    if options is None:
        return
    from drift_pl.evaluation.pictures import pictures_folder
    from drift_pl.reports.display import table

    evaluation = evaluate(options)
    protocol = evaluation.protocol
    print(f"\n{len(protocol['prompts'])} prompts x {protocol['seeds_per_prompt']} images, means over prompts")
    print(table(evaluation))
    print(f"\nvalues:  {evaluation.path} (with 95 % intervals, and per prompt)")
    print(f"images:  {pictures_folder(evaluation.path) / 'all.png'}")
    print(f"compare: python -m drift_pl.pareto {evaluation.path} ...")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
