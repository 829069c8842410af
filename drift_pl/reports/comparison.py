"""Evaluations grouped by method and seed, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drift_pl.core.errors import UserError
from drift_pl.evaluation.protocol import Protocol
from drift_pl.evaluation.record import Evaluation, Point
from drift_pl.reports.compatibility import EVALUATE, refuse_incomparable, training_difference


@dataclass(frozen=True)
class PointKey:
    """What tells the points of a run apart, and matches them between seeds."""

    iteration: int
    lora_scale: float
    importance_power: float | None
    weights: str

    @classmethod
    def of(cls, point: Point) -> "PointKey":
        return cls(point.iteration, point.lora_scale, point.importance_power, point.weights)

    def label(self, with_weights: bool) -> str:
        """As people read it: `iteration 80, LoRA scale 0.5`, and which of the weights if that tells points apart."""
        if self.weights == "base":
            return "base"
        parts = [f"iteration {self.iteration}"]
        if self.lora_scale != 1.0:
            parts.append(f"LoRA scale {self.lora_scale:g}")
        if self.importance_power is not None:
            parts.append(f"importance power {self.importance_power:g}")
        return ", ".join([*parts, f"{self.weights} weights"] if with_weights else parts)


@dataclass(frozen=True)
class Method:
    """The runs of one method.

    Attributes:
        name: label of its evaluations.
        evaluations: S of them, one per training seed, in the order of seeds.
        points: K points that every seed has, the base model first, then by iteration.
    """

    name: str
    evaluations: tuple[Evaluation, ...]
    points: tuple[PointKey, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(evaluation.seed for evaluation in self.evaluations)

    @property
    def final(self) -> int:
        """Index of the final point: the longest trained one, unscaled and unswept where there is such a one."""
        order = [(key.iteration, key.importance_power is None, key.lora_scale == 1.0) for key in self.points]
        return max(range(len(order)), key=lambda index: (order[index], index))

    def labels(self) -> list[str]:
        """A label per point, no two alike."""
        short = [key.label(with_weights=False) for key in self.points]
        return [key.label(with_weights=short.count(text) > 1) for key, text in zip(self.points, short, strict=True)]

    def point(self, seed_index: int, index: int) -> Point:
        """The point at an index of `points`, as evaluated for the seed at an index of `seeds`."""
        return next(p for p in self.evaluations[seed_index].points if PointKey.of(p) == self.points[index])

    def values_SKP(self, measure: str) -> np.ndarray:
        """A measure per seed, point and prompt, float64; NaN where a prompt has no value."""
        indices = range(len(self.points))
        rows = [[self.point(s, k).per_prompt[measure] for k in indices] for s in range(len(self.evaluations))]
        return np.array(rows, dtype=np.float64)  # None becomes NaN

    def overall_S(self, measure: str, index: int) -> np.ndarray:
        """A measure of all prompts together per seed, at one point; NaN where there is none."""
        means = [self.point(s, index).values[measure].mean for s in range(len(self.evaluations))]
        return np.array([np.nan if mean is None else mean for mean in means])


@dataclass(frozen=True)
class Comparison:
    """Methods that may be compared: one protocol, one base model, one budget, the same training seeds.

    Attributes:
        methods: in the order in which they were first given.
        trained_differently: what of the training differs, in words, where that was allowed; else empty.
    """

    methods: tuple[Method, ...]
    trained_differently: str = ""

    @property
    def base(self) -> Point:
        return self.methods[0].point(0, 0)

    @property
    def protocol(self) -> Protocol:
        return self.methods[0].evaluations[0].protocol

    def measures(self) -> list[str]:
        """What every point of every method has per prompt, in the base's order."""
        points = [point for method in self.methods for one in method.evaluations for point in one.points]
        return [name for name in self.base.per_prompt if all(name in point.per_prompt for point in points)]

    def measures_of_all_prompts(self) -> list[str]:
        """What every final point has of all prompts together, distances from the base model: `fid`, `kid`."""
        final = [one.point(seed, one.final) for one in self.methods for seed in range(len(one.seeds))]
        return [name for name in final[0].values if all(name in p.values and name not in p.per_prompt for p in final)]


def compare(evaluations: Sequence[Evaluation], last_only: bool = False, budgets_may_differ: bool = False) -> Comparison:
    """Groups evaluations by method and seed.

    Args:
        evaluations: at least one, in any order.
        last_only: keep the base and the points of the last iteration.
        budgets_may_differ: report instead of refuse that methods were trained for longer or on other prompts, or that
            seeds of one method were trained with other settings.

    Raises:
        UserError: two of them cannot be compared; the message names both, and what differs.
    """
    groups: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        groups.setdefault(evaluation.method, []).append(evaluation)
    for group in groups.values():
        group.sort(key=lambda evaluation: evaluation.seed)
    refuse_incomparable(groups)
    methods = tuple(Method(name, tuple(group), _common_points(group, last_only)) for name, group in groups.items())
    difference = training_difference(groups)
    if difference and not budgets_may_differ:
        raise UserError(f"{difference}: give runs that were trained alike, or compare them as they are, budgets=differ")
    return Comparison(methods, difference)


def _common_points(group: Sequence[Evaluation], last_only: bool) -> tuple[PointKey, ...]:
    points = [[PointKey.of(point) for point in evaluation.points] for evaluation in group]
    for evaluation, keys in zip(group, points, strict=True):
        for key in keys:
            if keys.count(key) > 1:
                raise UserError(
                    f"{evaluation.path} holds {key.label(True)} twice: measure each checkpoint once, "
                    f"{EVALUATE}{evaluation.run_dir} fresh=true"
                )
        differing = set(keys) ^ set(points[0])
        if differing:
            example = min(differing, key=lambda key: (key.iteration, key.label(True)))
            has, lacks = (evaluation, group[0]) if example in keys else (group[0], evaluation)
            raise UserError(
                f"{has.path} has {example.label(True)} and {lacks.path}, another seed of {evaluation.method}, has not: "
                f"measure the same checkpoints of both, {EVALUATE}{lacks.run_dir}"
            )
    keys = sorted(points[0], key=lambda key: (key.weights != "base", key.iteration))
    if len(keys) < 2:
        path, run_dir = group[0].path, group[0].run_dir
        raise UserError(f"{path} holds the base model alone: measure its checkpoints, {EVALUATE}{run_dir}")
    if last_only:
        keys = [key for key in keys if key.weights == "base" or key.iteration == keys[-1].iteration]
    return tuple(keys)
