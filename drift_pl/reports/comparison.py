"""Evaluations grouped by method and seed, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from drift_pl.core.errors import UserError
from drift_pl.evaluation.record import EVALUATE, Evaluation, Point, titles
from drift_pl.functional.fronts import Front, pareto_front
from drift_pl.reports.compatibility import BUDGET, refuse_incomparable, training_difference


@dataclass(frozen=True)
class Method:
    """The runs of one method.

    Attributes:
        name: label of its evaluations.
        evaluations: S of them, one per training seed, in the order of seeds.
        points: K points that every seed has, as measured for the first one; the base model first, then by iteration.
        measures: those that every point of every compared method has per prompt, in the base's order.
    """

    name: str
    evaluations: tuple[Evaluation, ...]
    points: tuple[Point, ...]
    measures: tuple[str, ...]

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

    @cached_property
    def values_SKP(self) -> dict[str, np.ndarray]:
        """Measure -> values per seed, point and prompt, float64; NaN where a prompt has none."""
        by_seed = list(zip(*map(self.of_seeds, range(len(self.points))), strict=True))
        return {
            # None becomes NaN
            name: np.array([[point.per_prompt[name] for point in points] for points in by_seed], dtype=np.float64)
            for name in self.measures
        }

    @cached_property
    def means_SK(self) -> dict[str, np.ndarray]:
        """Measure -> means over the prompts that have a value; NaN where none has."""
        means = {}
        for name, values_SKP in self.values_SKP.items():
            count_SK = np.isfinite(values_SKP).sum(axis=-1)
            means[name] = np.where(count_SK > 0, np.nansum(values_SKP, axis=-1) / np.maximum(count_SK, 1), np.nan)
        return means

    @cached_property
    def means_K(self) -> dict[str, np.ndarray]:
        """Measure -> means of `means_SK` over seeds; NaN where a seed has none."""
        return {name: means_SK.mean(axis=0) for name, means_SK in self.means_SK.items()}

    def usable_K(self, reward: str, diversity: str) -> np.ndarray:
        """Which points have both values in every seed."""
        return np.isfinite(self.means_K[reward] + self.means_K[diversity])

    def front(self, reward: str, diversity: str) -> Front:
        """Front of the means over seeds; a maximum over single seeds would make noise look like gain."""
        usable_K = self.usable_K(reward, diversity)
        return pareto_front(self.means_K[reward][usable_K], self.means_K[diversity][usable_K])

    def plane_SKP2(self, reward: str, diversity: str) -> np.ndarray:
        """Reward and diversity per prompt, of the usable points."""
        pair = [self.values_SKP[name][:, self.usable_K(reward, diversity)] for name in (reward, diversity)]
        return np.stack(pair, axis=-1)


@dataclass(frozen=True)
class Comparison:
    """Methods that may be compared: one protocol, one base model, one budget, the same training seeds.

    Attributes:
        methods: in the order in which they were first given.
        trained_differently: the first difference between their trainings, if that was allowed; else empty.
    """

    methods: tuple[Method, ...]
    trained_differently: str = ""


def compare(
    evaluations: Sequence[Evaluation],
    last_only: bool = False,
    budgets_may_differ: bool = False,
    budget: Sequence[str] = BUDGET,
) -> Comparison:
    """Groups evaluations by method and seed.

    Args:
        evaluations: at least one, in any order.
        last_only: keep the base and the points of the last iteration.
        budgets_may_differ: report, instead of refuse, that methods were trained for longer or on other prompts, or that
            seeds of one method were trained with different settings.
        budget: see `training_difference`.

    Raises:
        UserError: two of them cannot be compared; the message names both, and the difference.
    """
    groups: dict[str, list[Evaluation]] = {}
    for evaluation in sorted(evaluations, key=lambda evaluation: evaluation.seed):
        groups.setdefault(evaluation.method, []).append(evaluation)
    groups = {evaluation.method: groups[evaluation.method] for evaluation in evaluations}
    refuse_incomparable(groups)
    common = {name: _common_points(group, last_only) for name, group in groups.items()}
    points = [point for evaluation in evaluations for point in evaluation.points]
    base = next(iter(common.values()))[0]
    measures = tuple(name for name in base.per_prompt if all(name in point.per_prompt for point in points))
    methods = tuple(Method(name, tuple(group), common[name], measures) for name, group in groups.items())
    difference = training_difference(groups, budget)
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
