"""Measure points of a run one after the other: the base model, and checkpoints as they are scaled and guided."""

import time
from collections.abc import Sequence
from dataclasses import replace

from drift_pl.builders.checkpoint_weights import Checkpoint, load_weights
from drift_pl.core.progress import Display, clock
from drift_pl.evaluation.bench import Bench
from drift_pl.evaluation.evaluated import Evaluated
from drift_pl.evaluation.partial import PartialPoint
from drift_pl.evaluation.points import BASE, keep, read_array
from drift_pl.evaluation.record import Evaluation, Point
from drift_pl.evaluation.sampling import Model
from drift_pl.reports.display import headline


def measure_points(
    bench: Bench,
    model: Model,
    jobs: Sequence[tuple[Point, Checkpoint | None]],
    evaluation: Evaluation,
    display: Display,
    fresh: bool = False,
) -> Evaluation:
    """The record with the points of `jobs`, each of which is written when it is done.

    Args:
        jobs: points and their checkpoints; None: the base model.
        fresh: prompts that an interrupted try has measured are measured again.
    """
    bench = replace(bench, evaluator=replace(bench.evaluator, after_prompt=display.advance))
    began = time.monotonic()
    for number, (point, checkpoint) in enumerate(jobs, 1):
        with display.stage(point.title(), len(evaluation.protocol["prompts"]), "prompts") as stage:
            partial = PartialPoint.of(evaluation, point)
            if fresh:
                partial.remove()
            evaluation = keep(evaluation, point, _measure(bench, model, point, checkpoint, evaluation, partial))
            partial.remove()
            measured = next(one for one in evaluation.points if one.name == point.name)
            left = (time.monotonic() - began) / number * (len(jobs) - number)
            times = clock(stage.seconds()) + (f", {clock(left)} left" if left else "")
            stage.summary = f"{number}/{len(jobs)}  {point.title()}  {headline(measured)}  {times}"
    return evaluation


def _measure(
    bench: Bench,
    model: Model,
    point: Point,
    checkpoint: Checkpoint | None,
    evaluation: Evaluation,
    partial: PartialPoint,
) -> Evaluated:
    sample = evaluation.protocol["prompts"], evaluation.protocol["seeds_per_prompt"]
    if checkpoint is None:
        return bench.base(model, *sample, partial)
    load_weights(dict(model.policy.trainable_parameters()), checkpoint)
    plan = replace(bench.sampling, lora_scale=point.lora_scale, importance_power=point.importance_power)
    reference = read_array(evaluation, BASE.name, "embedding") if bench.evaluator.drift else None
    return replace(bench, sampling=plan).tuned(model, *sample, reference, partial)
