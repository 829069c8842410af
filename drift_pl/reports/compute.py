"""All numbers of a comparison: fronts of the means over seeds and of each seed, gains, final points."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from drift_pl.evaluation.record import half_width
from drift_pl.functional.intervals import MIN_SEEDS
from drift_pl.reports.comparison import Comparison
from drift_pl.reports.gains import Axes, Pair
from drift_pl.reports.question import FLOORS, Question, refuse_low_bound, resolve_defaults
from drift_pl.reports.results import Estimate, FrontResult, MethodResult, PointResult, Results, finite
from drift_pl.reports.values import Values, front_indices

ALIGNMENT = "alignment"
ROUNDING = 1e-9


def compute(comparison: Comparison, question: Question) -> Results:
    """All numbers.

    Raises:
        UserError: the question names an unknown measure or method, or its bound of the reward is too low.
    """
    measures = comparison.measures()
    values = {method.name: Values.of(method, measures) for method in comparison.methods}
    first = next(iter(values.values()))
    base = {name: finite(first.means_SK[name][0, 0]) for name in measures}
    question = resolve_defaults(question, base, list(values))
    refuse_low_bound(question, base, {name: one.values_SKP[question.reward] for name, one in values.items()})
    levels = {name: float(first.means_SK[name][0, 0]) for name in (question.reward, *question.diversity)}
    axes_of = partial(Axes, question.reward, base_reward=levels[question.reward], reward_bound=question.reward_bound)
    axes = [axes_of(name, base_diversity=levels[name], floor=FLOORS.get(name, 0.0)) for name in question.diversity]
    baseline = None if question.baseline is None else values[question.baseline]
    methods = []
    for one in values.values():
        fronts = {each.diversity: _front_result(one, baseline, each, base.get(ALIGNMENT)) for each in axes}
        methods.append(_method_result(one, fronts, comparison.measures_of_all_prompts()))
    return Results(
        reward=question.reward,
        reward_bound=question.reward_bound,
        diversity=list(question.diversity),
        measures=measures,
        baseline=question.baseline,
        seeds=first.method.seeds,
        protocol=dict(comparison.protocol),
        base=base,
        methods=methods,
        notes=_notes(comparison, question, values),
    )


def _method_result(values: Values, fronts: dict[str, FrontResult], overall: list[str]) -> MethodResult:
    method, final = values.method, values.method.final
    final_S = {name: means_SK[:, final] for name, means_SK in values.means_SK.items()}
    final_S |= {name: method.overall_S(name, final) for name in overall}
    return MethodResult(
        name=method.name,
        training=dict(method.evaluations[0].training),
        config_hashes=[evaluation.config_hash for evaluation in method.evaluations],
        files=[str(evaluation.path) for evaluation in method.evaluations],
        points=[_point_result(values, index, label) for index, label in enumerate(method.labels())],
        final=final,
        final_values={name: over_seeds(values_S) for name, values_S in final_S.items()},
        fronts=fronts,
    )


def _point_result(values: Values, index: int, label: str) -> PointResult:
    method, point = values.method, values.method.points[index]
    pictures = [
        evaluation.path.parent / (one.picture or "none")
        for evaluation, one in zip(method.evaluations, method.of_seeds(index), strict=True)
    ]
    return PointResult(
        label=label,
        iteration=point.iteration,
        lora_scale=point.lora_scale,
        importance_power=point.importance_power,
        weights=point.weights,
        mean={name: finite(means_K[index]) for name, means_K in values.means_K.items()},
        per_seed={name: [finite(value) for value in means_SK[:, index]] for name, means_SK in values.means_SK.items()},
        pictures=[str(path) if path.is_file() else None for path in pictures],
    )


def _front_result(values: Values, baseline: Values | None, axes: Axes, base_alignment: float | None) -> FrontResult:
    reward, diversity = axes.reward, axes.diversity
    usable_K = values.usable_K(reward, diversity)
    points = front_indices(values.means_K[reward], values.means_K[diversity], usable_K)
    per_seed_SK2 = zip(values.means_SK[reward], values.means_SK[diversity], strict=True)
    lowest, falls = _alignment(values, points, base_alignment)
    return FrontResult(
        points=points,
        per_seed=[front_indices(reward_K, diversity_K, usable_K) for reward_K, diversity_K in per_seed_SK2],
        hypervolume=axes.hypervolume(values.front(reward, diversity)),
        lowest_alignment=lowest,
        alignment_falls=falls,
        gains=None if baseline is None or baseline is values else Pair(baseline, values, axes).gains(),
    )


def _alignment(values: Values, points: list[int], base: float | None) -> tuple[float | None, bool]:
    """The lowest over the front's trained points, and whether it or the final point's is below the base model's."""
    if base is None:
        return None, False
    alignment_K = values.means_K[ALIGNMENT]
    trained = [float(alignment_K[k]) for k in points if values.method.points[k].weights != "base"]
    known = [value for value in trained if not np.isnan(value)]
    falls = any(value < base - ROUNDING for value in [*known, alignment_K[values.method.final]])
    return min(known, default=None), falls


def over_seeds(values_S: np.ndarray) -> Estimate:
    """Mean and t interval over training seeds."""
    count, mean = len(values_S), finite(values_S.mean())
    per_seed = [finite(value) for value in values_S]
    if mean is None:
        return Estimate(None, note="a seed has no value", per_seed=per_seed)
    if count < MIN_SEEDS:
        too_few = f"no interval: {count} of the at least {MIN_SEEDS} seeds that an interval needs"
        return Estimate(mean, note=too_few, per_seed=per_seed)
    half = half_width(values_S)
    return Estimate(mean, mean - half, mean + half, per_seed=per_seed)


def _notes(comparison: Comparison, question: Question, values: Mapping[str, Values]) -> list[str]:
    notes, seeds = [], len(comparison.methods[0].seeds)
    if seeds < MIN_SEEDS:
        notes.append(f"{seeds} training seed{'s' * (seeds > 1)}: no intervals, which need {MIN_SEEDS}")
    if question.baseline is None:
        notes.append("a single method: nothing to compare it with")
    if comparison.trained_differently:
        notes.append(f"not a fair comparison: {comparison.trained_differently}")
    kinds = {method.name: method.points[method.final].weights for method in comparison.methods}
    if len(set(kinds.values())) > 1:
        notes.append(f"final weights differ in kind: {', '.join(f'{name} {kind}' for name, kind in kinds.items())}")
    for method, one in values.items():
        labels = one.method.labels()
        for name in question.diversity:
            missing = [labels[k] for k in np.flatnonzero(~one.usable_K(question.reward, name))]
            if missing:
                notes.append(f"{method}: left out of its {name} front, as a seed has no value: {'; '.join(missing)}")
    return notes
