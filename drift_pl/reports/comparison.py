"""Evaluations grouped by method and seed, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drift_pl.core.errors import UserError
from drift_pl.evaluation.protocol import Protocol
from drift_pl.evaluation.record import EVALUATE, Evaluation, Point, titles
from drift_pl.reports.compatibility import refuse_incomparable, training_difference


@dataclass(frozen=True)
class Method:
    """The runs of one method.

    Attributes:
        name: label of its evaluations.
        evaluations: S of them, one per training seed, in the order of seeds.
        points: K points that every seed has, as measured for the first one; the base model first, then by iteration.
    """

    name: str
    evaluations: tuple[Evaluation, ...]
    points: tuple[Point, ...]

    @property
    def seeds(self) -> list[int]:
        return [evaluation.seed for evaluation in self.evaluations]

    @property
    def final(self) -> int:
        """Index of the final point, see `Point.finality`."""
        return max(range(len(self.points)), key=lambda index: (self.points[index].finality(), index))

    def labels(self) -> list[str]:
        """A distinct label per point."""
        return titles(self.points)

    def of_seeds(self, index: int) -> list[Point]:
        """The point at an index of `points`, as measured for each seed."""
        key = self.points[index].key
        return [next(point for point in one.points if point.key == key) for one in self.evaluations]

    def values_SKP(self, measure: str) -> np.ndarray:
        """A measure per seed, point and prompt, float64; NaN where a prompt has no value."""
        by_seed = zip(*map(self.of_seeds, range(len(self.points))), strict=True)
        rows = [[point.per_prompt[measure] for point in points] for points in by_seed]
        return np.array(rows, dtype=np.float64)  # None becomes NaN

    def overall_S(self, measure: str, index: int) -> np.ndarray:
        """A measure over all prompts together per seed, at one point; NaN where undefined."""
        return np.array([point.values[measure].mean for point in self.of_seeds(index)], dtype=np.float64)


@dataclass(frozen=True)
class Comparison:
    """Methods that may be compared: one protocol, one base model, one budget, the same training seeds.

    Attributes:
        methods: in the order in which they were first given.
        trained_differently: the first difference between their trainings, if that was allowed; else empty.
    """

    methods: tuple[Method, ...]
    trained_differently: str = ""

    @property
    def protocol(self) -> Protocol:
        return self.methods[0].evaluations[0].protocol

    def measures(self) -> list[str]:
        """Measures that every point of every method has per prompt, in the base's order."""
        points = [point for method in self.methods for one in method.evaluations for point in one.points]
        return [name for name in self.methods[0].points[0].per_prompt if all(name in p.per_prompt for p in points)]

    def measures_of_all_prompts(self) -> list[str]:
        """Measures that every final point has over all prompts together, distances from the base: `fid`, `kid`."""
        final = [point for method in self.methods for point in method.of_seeds(method.final)]
        return [name for name in final[0].values if all(name in p.values and name not in p.per_prompt for p in final)]


def compare(evaluations: Sequence[Evaluation], last_only: bool = False, budgets_may_differ: bool = False) -> Comparison:
    """Groups evaluations by method and seed.

    Args:
        evaluations: at least one, in any order.
        last_only: keep the base and the points of the last iteration.
        budgets_may_differ: report, instead of refuse, that methods were trained for longer or on other prompts, or that
            seeds of one method were trained with different settings.

    Raises:
        UserError: two of them cannot be compared; the message names both, and the difference.
    """
    groups: dict[str, list[Evaluation]] = {}
    for evaluation in sorted(evaluations, key=lambda evaluation: evaluation.seed):
        groups.setdefault(evaluation.method, []).append(evaluation)
    groups = {evaluation.method: groups[evaluation.method] for evaluation in evaluations}
    refuse_incomparable(groups)
    methods = tuple(Method(name, tuple(group), _common_points(group, last_only)) for name, group in groups.items())
    difference = training_difference(groups)
    if difference and not budgets_may_differ:
        raise UserError(f"{difference}: give runs with the same training, or compare them anyway, budgets=differ")
    return Comparison(methods, difference)


def _common_points(group: Sequence[Evaluation], last_only: bool) -> tuple[Point, ...]:
    first = group[0]
    for evaluation in group:
        points, others = ({point.key: point for point in one.points} for one in (evaluation, first))
        if len(points) < len(evaluation.points):
            twice = next(point for point in evaluation.points if points[point.key] is not point)
            raise UserError(
                f"{evaluation.path} holds {twice.title(True)} twice: measure each checkpoint once, "
                f"{EVALUATE}{evaluation.run_dir} fresh=true"
            )
        differing = points.keys() ^ others.keys()
        if differing:
            example = min(((points | others)[key] for key in differing), key=lambda p: (p.iteration, p.title(True)))
            has, lacks = (evaluation, first) if example.key in points else (first, evaluation)
            raise UserError(
                f"{has.path} has {example.title(True)} and {lacks.path}, another seed of {evaluation.method}, has not: "
                f"measure the same checkpoints of both, {EVALUATE}{lacks.run_dir}"
            )
    kept = sorted(first.points, key=lambda point: (point.weights != "base", point.iteration))
    if len(kept) < 2:
        raise UserError(f"{first.path} holds the base model alone: measure its checkpoints, {EVALUATE}{first.run_dir}")
    return tuple(p for p in kept if not last_only or p.weights == "base" or p.iteration == kept[-1].iteration)
