"""All numbers of a comparison: fronts of the means over seeds and of each seed, gains, final points."""

from functools import partial

import numpy as np

from drift_pl.evaluation.record import half_width
from drift_pl.functional.fronts import pareto_front
from drift_pl.functional.intervals import MIN_SEEDS
from drift_pl.reports.comparison import Comparison, Method
from drift_pl.reports.gains import Axes, Pair
from drift_pl.reports.question import FLOORS, Question, refuse_low_bound, resolve_defaults
from drift_pl.reports.results import Estimate, FrontResult, MethodResult, PointResult, Results, finite

ALIGNMENT = "alignment"
ROUNDING = 1e-9


def compute(comparison: Comparison, question: Question) -> Results:
    """All numbers.

    Raises:
        UserError: the question names an unknown measure or method, or its bound of the reward is too low.
    """
    methods = {method.name: method for method in comparison.methods}
    first = comparison.methods[0]
    base = {name: finite(means_SK[0, 0]) for name, means_SK in first.means_SK.items()}
    question = resolve_defaults(question, base, list(methods))
    refuse_low_bound(question, base, {name: method.values_SKP[question.reward] for name, method in methods.items()})
    baseline = None if question.baseline is None else methods[question.baseline]
    levels = {name: float(means_SK[0, 0]) for name, means_SK in first.means_SK.items()}
    axes_of = partial(Axes, question.reward, base_reward=levels[question.reward], reward_bound=question.reward_bound)
    axes = [axes_of(name, base_diversity=levels[name], floor=FLOORS.get(name, 0.0)) for name in question.diversity]
    final = [point for method in methods.values() for point in method.of_seeds(method.final)]
    overall = [name for name in final[0].values if all(name in p.values and name not in p.per_prompt for p in final)]
    results = []
    for method in methods.values():
        fronts = {each.diversity: _front_result(method, baseline, each, base.get(ALIGNMENT)) for each in axes}
        results.append(_method_result(method, fronts, overall))
    return Results(
        reward=question.reward,
        reward_bound=question.reward_bound,
        diversity=list(question.diversity),
        measures=list(first.measures),
        baseline=question.baseline,
        seeds=first.seeds,
        protocol=dict(first.evaluations[0].protocol),
        base=base,
        methods=results,
        notes=_notes(comparison, question),
    )


def _method_result(method: Method, fronts: dict[str, FrontResult], overall: list[str]) -> MethodResult:
    """Also with the final values of `overall`, measured over all prompts together: distances from the base model."""
    final_S = {name: means_SK[:, method.final] for name, means_SK in method.means_SK.items()}
    for name in overall:
        means = [point.values[name].mean for point in method.of_seeds(method.final)]
        final_S[name] = np.array(means, dtype=np.float64)  # None becomes NaN
    return MethodResult(
        name=method.name,
        training=dict(method.evaluations[0].training),
        config_hashes=[evaluation.config_hash for evaluation in method.evaluations],
        files=[str(evaluation.path) for evaluation in method.evaluations],
        points=[_point_result(method, index, label) for index, label in enumerate(method.labels())],
        final=method.final,
        final_values={name: over_seeds(values_S) for name, values_S in final_S.items()},
        fronts=fronts,
    )


def _point_result(method: Method, index: int, label: str) -> PointResult:
    point = method.points[index]
    pictures = [
        evaluation.picture_of(one) for evaluation, one in zip(method.evaluations, method.of_seeds(index), strict=True)
    ]
    return PointResult(
        label=label,
        iteration=point.iteration,
        lora_scale=point.lora_scale,
        importance_power=point.importance_power,
        weights=point.weights,
        mean={name: finite(means_K[index]) for name, means_K in method.means_K.items()},
        per_seed={name: [finite(value) for value in means_SK[:, index]] for name, means_SK in method.means_SK.items()},
        pictures=[None if path is None else str(path) for path in pictures],
    )


def _front_result(method: Method, baseline: Method | None, axes: Axes, base_alignment: float | None) -> FrontResult:
    reward, diversity = axes.reward, axes.diversity
    usable_K = method.usable_K(reward, diversity)
    points = _front_indices(method.means_K[reward], method.means_K[diversity], usable_K)
    per_seed_SK2 = zip(method.means_SK[reward], method.means_SK[diversity], strict=True)
    lowest, falls = _alignment(method, points, base_alignment)
    return FrontResult(
        points=points,
        per_seed=[_front_indices(reward_K, diversity_K, usable_K) for reward_K, diversity_K in per_seed_SK2],
        hypervolume=axes.hypervolume(method.front(reward, diversity)),
        lowest_alignment=lowest,
        alignment_falls=falls,
        gains=None if baseline is None or baseline is method else Pair(baseline, method, axes).gains(),
    )


def _front_indices(reward_K: np.ndarray, diversity_K: np.ndarray, usable_K: np.ndarray) -> list[int]:
    """Indices of the front's points, by ascending reward; of equal points the first."""
    front = pareto_front(reward_K[usable_K], diversity_K[usable_K])
    pairs = zip(front.reward_N, front.diversity_N, strict=True)
    return [int(np.flatnonzero((reward_K == reward) & (diversity_K == diversity))[0]) for reward, diversity in pairs]


def _alignment(method: Method, points: list[int], base: float | None) -> tuple[float | None, bool]:
    """The lowest over the front's trained points, and whether it or the final point's is below the base model's."""
    if base is None:
        return None, False
    alignment_K = method.means_K[ALIGNMENT]
    trained = [float(alignment_K[k]) for k in points if method.points[k].weights != "base"]
    known = [value for value in trained if not np.isnan(value)]
    falls = any(value < base - ROUNDING for value in [*known, alignment_K[method.final]])
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


def _notes(comparison: Comparison, question: Question) -> list[str]:
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
    notes += [note for name in (question.reward, *question.diversity) if (note := _other_prompts(comparison, name))]
    for method in comparison.methods:
        labels = method.labels()
        for name in question.diversity:
            missing = "; ".join(labels[k] for k in np.flatnonzero(~method.usable_K(question.reward, name)))
            if missing:
                notes.append(f"{method.name}: left out of its {name} front, as a seed has no value: {missing}")
    return notes


def _other_prompts(comparison: Comparison, measure: str) -> str | None:
    """That means are not over the same prompts, if a model has no value for some: the point that has the fewest."""
    known = [(method, np.isfinite(method.values_SKP[measure])) for method in comparison.methods]
    if all((known_SKP == known_SKP[:, :1]).all() for _, known_SKP in known):  # those of the base model
        return None
    fewest, point = min(
        (int(count), f"{method.name}, {label}")
        for method, known_SKP in known
        for count, label in zip(known_SKP.sum(-1).min(0), method.labels(), strict=True)
    )
    total = known[0][1].shape[-1]
    return (
        f"{measure}: a mean is over the prompts that have a value, which are not the same for every point; the fewest "
        f"are {fewest} of {total} ({point})"
    )
