"""The command that measures checkpoints: `python -m drift_pl.evaluate ckpt_path=RUN_FOLDER [KEY=VALUE ...]`."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drift_pl.builders.quiet import quieten
from drift_pl.config.batches import derive_batches
from drift_pl.config.checkpoints import CONFIG, find_checkpoints
from drift_pl.config.command import run_command
from drift_pl.config.evaluating import EvaluateOptions
from drift_pl.config.inputs import inputs_now
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path, probe_folder
from drift_pl.core.progress import Display
from drift_pl.core.prompt_files import DATASET

if TYPE_CHECKING:  # `--help` and wrong keys answer without numpy and torch
    from drift_pl.builders.checkpoint_weights import Checkpoint
    from drift_pl.evaluation.record import Evaluation, Point

    Jobs = list[tuple[Point, Checkpoint | None]]
    """Points to be measured, each with its checkpoint (None: the base model)."""


def evaluate(options: EvaluateOptions) -> "Evaluation":
    """Measures the missing points, and returns the whole record.

    Raises:
        UserError: an input cannot be used, or the file belongs to another run or protocol; nothing has been written
            then.
    """
    options.refuse_contradictions()
    run_dir, paths = find_checkpoints(options.ckpt_path)
    config = options.config(run_dir / CONFIG)
    with Display("auto") as display:
        with display.stage("importing libraries"):
            quieten()
        return _evaluate(options, config, run_dir, paths, display)


def _evaluate(
    options: EvaluateOptions, config: Config, run_dir: Path, paths: Sequence[Path], display: Display
) -> "Evaluation":
    from drift_pl.builders.checkpoint_weights import read_checkpoints
    from drift_pl.builders.early import refuse_unfit
    from drift_pl.builders.hardware import choose_device
    from drift_pl.evaluation.base import read_base
    from drift_pl.evaluation.points import read_array
    from drift_pl.evaluation.shared import write_shared

    device, autocast = choose_device(config)
    refuse_unfit(config, options.needs(), options.judges)
    checkpoints = read_checkpoints(paths, run_dir / CONFIG, options.weights)
    evaluation = _open(options, config, run_dir, checkpoints[0].config_hash)
    evaluation = replace(evaluation, points=_current(evaluation.points, checkpoints))
    base = read_base(local_path(options.base), evaluation) if options.base else None
    jobs = _jobs(options, config, checkpoints)
    for point in evaluation.points:
        read_array(evaluation, point.name, "grid")  # needed at the end: damaged ones are refused before hours of work
    probe_folder(evaluation.folder)
    if _missing(jobs, evaluation):
        evaluation = _measure(options, config, jobs, evaluation, base, device, autocast, display)
    evaluation = write_shared(evaluation)
    _write_sheet(evaluation)
    return evaluation


def _open(options: EvaluateOptions, config: Config, run_dir: Path, config_hash: str) -> "Evaluation":
    """The record so far, of the same run and protocol; without points if there is no file."""
    from drift_pl.builders.bench import new_record
    from drift_pl.evaluation.protocol import MEASURED_WITH
    from drift_pl.evaluation.record_file import read_evaluation, replaced

    seeds = config.evaluation.seeds_per_prompt
    new = new_record(config, Path(), options.prompts, seeds, options.judges)
    path = local_path(options.out) if options.out else _file(options.prompts, run_dir, new)
    inputs = inputs_now(config, run_dir, MEASURED_WITH, options.replaced())
    new = replace(new, path=path, method=options.method or new.method, config_hash=config_hash, inputs=inputs)
    if not path.exists():
        return new
    if options.fresh:
        return replaced(path, new, options.out)
    earlier = read_evaluation(path)
    difference = earlier.difference(new)
    if difference:
        remedy = "give another file, e.g. out=evaluation-2.json, or replace it with fresh=true"
        raise UserError(f"{path} {difference}; {remedy}")
    return replace(new, method=options.method or earlier.method, points=earlier.points, known=earlier.known)


def _file(prompts: str, run_dir: Path, new: "Evaluation") -> Path:
    """File of a run's evaluation on these prompts: that of `fit`, if it has the same protocol."""
    from drift_pl.evaluation.record_file import default_file, read_evaluation

    if prompts == "test":
        return default_file(run_dir)
    tuning = run_dir / "evaluation" / "tuning.json"
    if prompts == "tuning" and tuning.is_file() and not read_evaluation(tuning).protocol_difference(new):
        return tuning
    name = re.sub(r"[^\w.-]+", "-", prompts) if prompts.startswith(DATASET) else Path(prompts).stem
    return tuning.with_name(f"prompts-{name}.json")


def _current(points: Sequence["Point"], checkpoints: Sequence["Checkpoint"]) -> tuple["Point", ...]:
    """Points without those of checkpoints whose file now holds other weights."""
    digests = {(checkpoint.path.name, checkpoint.weights): checkpoint.digest for checkpoint in checkpoints}
    return tuple(
        point for point in points if digests.get((str(point.checkpoint), point.weights), point.digest) == point.digest
    )


def _jobs(options: EvaluateOptions, config: Config, checkpoints: Sequence["Checkpoint"]) -> "Jobs":
    """The base model, and each checkpoint at each scale and power."""
    from drift_pl.builders.bench import build_sampling
    from drift_pl.evaluation.points import BASE, trained_point

    jobs: Jobs = [(BASE, None)]
    plan, per_iteration = build_sampling(config), derive_batches(config).images_per_iteration
    scales, powers = options.lora_scale or [plan.lora_scale], options.importance_power or [plan.importance_power]
    for known, scale, power in product(checkpoints, scales, powers):
        sampled = replace(plan, lora_scale=scale, importance_power=power)
        facts = (known.path.name, known.digest, known.iteration, known.iteration * per_iteration, known.weights)
        jobs.append((trained_point(*facts, sampled, options.weights == "live"), known))
    return jobs


def _missing(jobs: "Jobs", evaluation: "Evaluation") -> "Jobs":
    done = {point.identity() for point in evaluation.points}
    return [job for job in jobs if job[0].identity() not in done]


def _measure(
    options: EvaluateOptions,
    config: Config,
    jobs: "Jobs",
    evaluation: "Evaluation",
    base: "Evaluation | None",
    device: Any,
    autocast: Any,
    display: Display,
) -> "Evaluation":
    """Loads the model and what measures it, and measures what is missing."""
    from drift_pl.builders.bench import build_bench
    from drift_pl.builders.checkpoint_weights import refuse_other_shapes, without_warm_start
    from drift_pl.builders.measuring import measure_points
    from drift_pl.builders.policy import build_policy
    from drift_pl.builders.scoring import build_run_rewards
    from drift_pl.core.text_length import expect_prompts
    from drift_pl.evaluation.base import with_base_of
    from drift_pl.evaluation.points import BASE, read_array
    from drift_pl.evaluation.sampling import Model

    with display.stage("loading models"):
        bench = build_bench(config, build_run_rewards(config, [options.prompts]), options.judges)
        model = Model.on(build_policy(without_warm_start(config)), device, autocast)
        bench.evaluator.to(device)
    parameters = dict(model.policy.trainable_parameters())
    for _, known in jobs:
        if known is not None:
            refuse_other_shapes(parameters, known, config.policy.lora.rank)
    rewards = [*bench.evaluator.rewards, *bench.evaluator.heldout_rewards]
    expect_prompts([model.policy, *rewards], evaluation.protocol["prompts"])
    if base is not None:
        evaluation = with_base_of(evaluation, base)
    drift, missing = bool(bench.evaluator.drift), _missing(jobs, evaluation)
    if drift and missing and missing[0] is not jobs[0] and read_array(evaluation, BASE.name, "embedding") is None:
        missing = [jobs[0], *missing]  # metrics of drift need the base's embeddings
    return measure_points(bench, model, missing, evaluation, display, options.fresh)


def _write_sheet(evaluation: "Evaluation") -> None:
    """The picture of all points whose images were kept."""
    from drift_pl.evaluation.grids import save_sheet
    from drift_pl.evaluation.points import read_array
    from drift_pl.evaluation.record import titles
    from drift_pl.reports.display import headline

    labels: list[str] = []
    grids: list = []
    for title, point in zip(titles(evaluation.points), evaluation.points, strict=True):
        grid = read_array(evaluation, point.name, "grid")
        if grid is not None and (not grids or grid.shape == grids[0].shape):
            labels.append(f"{title} {headline(point)}")
            grids.append(grid)
    if grids:
        save_sheet(labels, grids, evaluation.protocol["prompts"], evaluation.folder / "all.png")


def _run(argv: list[str]) -> None:
    options = EvaluateOptions.read(argv)
    if options is None:
        return
    from drift_pl.reports.display import table

    evaluation = evaluate(options)
    protocol = evaluation.protocol
    print(f"\n{len(protocol['prompts'])} prompts x {protocol['seeds_per_prompt']} images, means over prompts")
    print(table(evaluation))
    print(f"\nvalues:  {evaluation.path} (with 95 % intervals, and per prompt)")
    print(f"images:  {evaluation.folder / 'all.png'}")
    print(f"compare: python -m drift_pl.pareto {evaluation.path} ...")


def main(argv: list[str] | None = None) -> int:
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
