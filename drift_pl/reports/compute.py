"""From a comparison to all its numbers: fronts of the means over seeds, each seed's own, gains, final points."""

from dataclasses import dataclass

import numpy as np

from drift_pl.functional.intervals import MIN_SEEDS, t_quantile
from drift_pl.reports.comparison import Comparison
from drift_pl.reports.gains import Pair, Scale, gains
from drift_pl.reports.question import FLOORS, Question, refuse_low_bound, understand
from drift_pl.reports.results import Estimate, FrontResult, Gains, MethodResult, PointResult, Results, finite
from drift_pl.reports.values import Values, front_indices

LEVEL = 0.95
ALIGNMENT = "alignment"
ROUNDING = 1e-9


@dataclass(frozen=True)
class _Study:
    """What the numbers of every method need: the question, understood, and the base model's means."""

    question: Question
    base: dict[str, float | None]
    values: dict[str, Values]
    measures_of_all_prompts: list[str]

    def scale(self, diversity: str) -> Scale:
        reward, level = self.base[self.question.reward], self.base[diversity]
        if reward is None or level is None:
            raise ValueError(f"the base model has no {diversity}: `understand` refuses such a question")
        return Scale(reward, level, FLOORS.get(diversity, 0.0), self.question.reward_bound)

    def baseline_for(self, values: Values) -> Values | None:
        """What a method is held against; None for the baseline itself, and if there is nothing else."""
        baseline = None if self.question.baseline is None else self.values[self.question.baseline]
        return None if baseline is values else baseline


def compute(comparison: Comparison, question: Question) -> Results:
    """All numbers.

    Raises:
        UserError: the question names what there is not, or its bound of the reward is too low.
    """
    measures = comparison.measures()
    values = {method.name: Values.of(method, measures) for method in comparison.methods}
    first = next(iter(values.values()))
    base = {name: finite(first.means_SK[name][0, 0]) for name in measures}
    question = understand(question, base, list(values))
    refuse_low_bound(question, base, {name: one.values_SKP[question.reward] for name, one in values.items()})
    study = _Study(question, base, values, comparison.measures_of_all_prompts())
    return Results(
        reward=question.reward,
        reward_bound=question.reward_bound,
        diversity=list(question.diversity),
        measures=measures,
        baseline=question.baseline,
        seeds=list(first.method.seeds),
        protocol=dict(comparison.protocol),
        base=base,
        methods=[_method_result(one, study) for one in values.values()],
        notes=_notes(comparison, study),
    )


def _method_result(values: Values, study: _Study) -> MethodResult:
    method, final = values.method, values.method.final
    final_S = {name: means_SK[:, final] for name, means_SK in values.means_SK.items()}
    final_S |= {name: method.overall_S(name, final) for name in study.measures_of_all_prompts}
    return MethodResult(
        name=method.name,
        training=dict(method.evaluations[0].training),
        config_hashes=[evaluation.config_hash for evaluation in method.evaluations],
        files=[str(evaluation.path) for evaluation in method.evaluations],
        points=[_point_result(values, index, label) for index, label in enumerate(method.labels())],
        final=final,
        final_values={name: over_seeds(values_S) for name, values_S in final_S.items()},
        fronts={name: _front_result(values, study, name) for name in study.question.diversity},
    )


def _point_result(values: Values, index: int, label: str) -> PointResult:
    method, key = values.method, values.method.points[index]
    pictures = []
    for seed_index, evaluation in enumerate(method.evaluations):
        path = evaluation.picture_of(method.point(seed_index, index))
        pictures.append(None if path is None else str(path))
    return PointResult(
        label=label,
        iteration=key.iteration,
        lora_scale=key.lora_scale,
        importance_power=key.importance_power,
        weights=key.weights,
        mean={name: finite(means_K[index]) for name, means_K in values.means_K.items()},
        per_seed={name: [finite(value) for value in means_SK[:, index]] for name, means_SK in values.means_SK.items()},
        pictures=pictures,
    )


def _front_result(values: Values, study: _Study, name: str) -> FrontResult:
    reward = study.question.reward
    usable_K = values.usable_K(reward, name)
    points = front_indices(values.means_K[reward], values.means_K[name], usable_K)
    per_seed_SK2 = zip(values.means_SK[reward], values.means_SK[name], strict=True)
    lowest, falls = _alignment(values, points, study.base.get(ALIGNMENT))
    return FrontResult(
        points=points,
        per_seed=[front_indices(reward_K, diversity_K, usable_K) for reward_K, diversity_K in per_seed_SK2],
        hypervolume=study.scale(name).hypervolume(values.front(reward, name)),
        lowest_alignment=lowest,
        alignment_falls=falls,
        gains=_gains(values, study, name),
    )


def _alignment(values: Values, points: list[int], base: float | None) -> tuple[float | None, bool]:
    """The least over the front's trained points, and whether it or the final point's is below the base model's."""
    if base is None:
        return None, False
    alignment_K = values.means_K[ALIGNMENT]
    trained = [float(alignment_K[k]) for k in points if values.method.points[k].weights != "base"]
    known = [value for value in trained if not np.isnan(value)]
    falls = any(value < base - ROUNDING for value in [*known, alignment_K[values.method.final]])
    return min(known, default=None), falls


def _gains(values: Values, study: _Study, name: str) -> Gains | None:
    baseline, reward = study.baseline_for(values), study.question.reward
    if baseline is None:
        return None
    final = baseline.method.final
    pair = Pair(
        baseline=baseline.front(reward, name),
        method=values.front(reward, name),
        baseline_SKP2=baseline.plane_SKP2(reward, name),
        method_SMP2=values.plane_SKP2(reward, name),
        final_2=np.array([baseline.means_K[reward][final], baseline.means_K[name][final]]),
    )
    return gains(pair, study.scale(name))


def over_seeds(values_S: np.ndarray) -> Estimate:
    """Mean and t interval over training seeds."""
    count, mean = len(values_S), finite(values_S.mean())
    per_seed = [finite(value) for value in values_S]
    if mean is None:
        return Estimate(None, note="a seed has no value", per_seed=per_seed)
    if count < MIN_SEEDS:
        too_few = f"no interval: {count} of the at least {MIN_SEEDS} seeds that an interval needs"
        return Estimate(mean, note=too_few, per_seed=per_seed)
    half = t_quantile((1 + LEVEL) / 2, count - 1) * float(values_S.std(ddof=1)) / count**0.5
    return Estimate(mean, mean - half, mean + half, per_seed=per_seed)


def _notes(comparison: Comparison, study: _Study) -> list[str]:
    notes, seeds = [], len(comparison.methods[0].seeds)
    if seeds < MIN_SEEDS:
        notes.append(f"{seeds} training seed{'s' * (seeds > 1)}: no intervals, which need {MIN_SEEDS}")
    if study.question.baseline is None:
        notes.append("a single method: nothing to compare it with")
    if comparison.trained_differently:
        notes.append(f"not a fair comparison: {comparison.trained_differently}")
    kinds = {method.name: method.points[method.final].weights for method in comparison.methods}
    if len(set(kinds.values())) > 1:
        notes.append(f"final weights differ in kind: {', '.join(f'{name} {kind}' for name, kind in kinds.items())}")
    for values in study.values.values():
        labels = values.method.labels()
        for name in study.question.diversity:
            missing = [labels[k] for k in np.flatnonzero(~values.usable_K(study.question.reward, name))]
            if missing:
                where = f"{values.method.name}: left out of its {name} front, as a seed has no value"
                notes.append(f"{where}: {'; '.join(missing)}")
    return notes
