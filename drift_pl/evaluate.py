"""The command that measures checkpoints: `python -m drift_pl.evaluate ckpt_path=RUN_FOLDER [KEY=VALUE ...]`.

Measures a run's checkpoints and its base model on held-out prompts, adds them to the run's record point by point, and
draws a picture of the same noise through all of them.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drift_pl.builders.quiet import quieten
from drift_pl.config.batches import derive_batches
from drift_pl.config.checkpoints import CONFIG, find_checkpoints
from drift_pl.config.command import run_command
from drift_pl.config.evaluate_keys import EvaluateOptions
from drift_pl.config.help import read_options
from drift_pl.config.inputs import inputs_now
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError

if TYPE_CHECKING:  # `--help` and wrong keys answer without numpy and torch
    from drift_pl.builders.checkpoint_weights import Checkpoint
    from drift_pl.evaluation.record import Evaluation, Point

    Jobs = list[tuple[Point, Checkpoint | None]]
    """Points to be measured, and the checkpoints that they are of (None: the base model)."""


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
    from drift_pl.builders.checkpoint_weights import read_checkpoints
    from drift_pl.evaluation.base import read_base
    from drift_pl.evaluation.record import write_evaluation

    checkpoints = read_checkpoints(paths, run_dir / CONFIG, options.weights)
    evaluation = _open(options, config, run_dir, checkpoints[0].identity.rpartition("-s")[0])
    evaluation = replace(evaluation, points=_current(evaluation.points, checkpoints))
    base = read_base(Path(options.base), evaluation) if options.base else None
    jobs = _jobs(options, config, checkpoints)
    if _missing(jobs, evaluation):
        evaluation = _measure(options, config, jobs, evaluation, base)
    write_evaluation(evaluation)
    _write_sheet(evaluation)
    return evaluation


def _open(options: EvaluateOptions, config: Config, run_dir: Path, config_hash: str) -> "Evaluation":
    """What the file holds already, of the same run and protocol; without points if there is none."""
    from drift_pl.builders.bench import new_record
    from drift_pl.evaluation.protocol import MEASURED_WITH
    from drift_pl.evaluation.record import read_evaluation

    seeds = config.evaluation.seeds_per_prompt
    new = new_record(config, Path(), options.prompts, seeds, options.judges)
    path = Path(options.out) if options.out else _file(options.prompts, run_dir, new)
    inputs = inputs_now(config, run_dir, MEASURED_WITH, options.given_keys())
    new = replace(new, path=path, method=options.method or new.method, config_hash=config_hash, inputs=inputs)
    if options.fresh or not path.exists():
        return new
    earlier = read_evaluation(path)
    difference = earlier.difference(new)
    if difference:
        remedy = "give another file, e.g. out=evaluation-2.json, or replace it with fresh=true"
        raise UserError(f"{path} {difference}{';' if 'otherwise' in difference else ':'} {remedy}")
    return replace(new, method=options.method or earlier.method, points=earlier.points)


def _file(prompts: str, run_dir: Path, new: "Evaluation") -> Path:
    """Where a run's evaluation on these prompts lies: that of `fit`, if it is measured alike."""
    from drift_pl.evaluation.protocol import first_difference
    from drift_pl.evaluation.record import default_file, read_evaluation

    if prompts == "test":
        return default_file(run_dir)
    looks = run_dir / "evaluation" / "tuning.json"
    if prompts == "tuning" and looks.is_file() and not first_difference(read_evaluation(looks).protocol, new.protocol):
        return looks
    return looks.with_name(f"prompts-{Path(prompts).stem}.json")


def _current(points: Sequence["Point"], checkpoints: Sequence["Checkpoint"]) -> tuple["Point", ...]:
    """Points without those of checkpoints whose file holds other weights by now."""
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
    options: EvaluateOptions, config: Config, jobs: "Jobs", evaluation: "Evaluation", base: "Evaluation | None"
) -> "Evaluation":
    """Measures point by point; each is in the file as soon as it is done."""
    from drift_pl.builders.bench import build_bench
    from drift_pl.builders.checkpoint_weights import load_weights, refuse_other_shapes, without_warm_start
    from drift_pl.builders.hardware import choose_device
    from drift_pl.builders.run import build_policy
    from drift_pl.builders.scoring import build_rewards
    from drift_pl.evaluation.base import with_base_of
    from drift_pl.evaluation.partial import PartialPoint
    from drift_pl.evaluation.points import BASE, keep, read_array
    from drift_pl.evaluation.sampling import Model
    from drift_pl.reports.display import Progress, headline

    device, autocast = choose_device(config)
    bench = build_bench(config, build_rewards(config.rewards, "rewards"), options.judges)
    model = Model.on(build_policy(without_warm_start(config)), device, autocast)
    bench.evaluator.to(device)
    parameters = dict(model.policy.trainable_parameters())
    for _, known in jobs:
        if known is not None:
            refuse_other_shapes(parameters, known, config.policy.lora.rank)
    if base is not None:
        evaluation = with_base_of(evaluation, base)
    drift, missing = bool(bench.evaluator.drift), _missing(jobs, evaluation)
    if drift and missing and missing[0] is not jobs[0] and read_array(evaluation, BASE.name, "embedding") is None:
        missing = [jobs[0], *missing]  # metrics of drift need the base's embeddings
    asked = (evaluation.protocol["prompts"], evaluation.protocol["seeds_per_prompt"])
    with Progress(len(missing), len(asked[0])) as progress:
        for point, checkpoint in missing:
            watched = replace(model, encode=_watched(model.encode, progress.begin(point.title())))
            partial = PartialPoint.of(evaluation, point)
            if options.fresh:
                partial.remove()
            if checkpoint is None:
                evaluated = bench.base(watched, *asked, partial)
            else:
                load_weights(parameters, checkpoint)
                plan = replace(bench.sampling, lora_scale=point.lora_scale, importance_power=point.importance_power)
                reference = read_array(evaluation, BASE.name, "embedding") if drift else None
                evaluated = replace(bench, sampling=plan).tuned(watched, *asked, reference, partial)
            evaluation = keep(evaluation, point, evaluated)
            partial.remove()
            progress.end(headline(next(one for one in evaluation.points if one.name == point.name)))
    return evaluation


def _watched(encode: Callable[..., Any], begun: Callable[[], None]) -> Callable[..., Any]:
    """Tells how far an evaluation is: it encodes each prompt once, when it begins with it."""

    def call(*inputs: Any, **options: Any) -> Any:
        begun()
        return encode(*inputs, **options)

    return call


def _write_sheet(evaluation: "Evaluation") -> None:
    """The picture of all points whose images were kept."""
    from drift_pl.evaluation.grids import save_sheet
    from drift_pl.evaluation.points import read_array
    from drift_pl.reports.display import headline

    labels: list[str] = []
    grids: list = []
    for point in evaluation.points:
        grid = read_array(evaluation, point.name, "grid")
        if grid is not None and (not grids or grid.shape == grids[0].shape):
            labels.append(f"{point.title()} {headline(point)}")
            grids.append(grid)
    if grids:
        save_sheet(labels, grids, evaluation.protocol["prompts"], evaluation.folder / "all.png")


def _run(argv: list[str]) -> None:
    options = read_options(EvaluateOptions, argv)
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
