"""From a comparison to all its numbers: fronts of the means over seeds, each seed's own, gains, final points."""

from dataclasses import dataclass

import numpy as np

from drift_pl.evidence.comparison import Comparison, Method
from drift_pl.evidence.gains import Pair, Scale, gains
from drift_pl.evidence.question import FLOORS, Question, refuse_low_bound, understand
from drift_pl.evidence.results import Estimate, FrontResult, MethodResult, PointResult, Results, finite
from drift_pl.functional.fronts import Front, pareto_front
from drift_pl.functional.intervals import MIN_SEEDS, t_quantile

LEVEL = 0.95
ALIGNMENT = "alignment"
ROUNDING = 1e-9


@dataclass(frozen=True)
class Values:
    """All values of a method.

    Attributes:
        values_SKP: measure -> per seed, point and prompt.
        means_SK: measure -> mean over the prompts that have a value; NaN where none has.
        means_K: measure -> mean of that over seeds; NaN where a seed has none.
    """

    method: Method
    values_SKP: dict[str, np.ndarray]
    means_SK: dict[str, np.ndarray]
    means_K: dict[str, np.ndarray]

    @classmethod
    def of(cls, method: Method, measures: list[str]) -> "Values":
        values_SKP = {name: method.values_SKP(name) for name in measures}
        means_SK = {name: mean_over_prompts(values) for name, values in values_SKP.items()}
        return cls(method, values_SKP, means_SK, {name: means.mean(axis=0) for name, means in means_SK.items()})

    def usable_K(self, reward: str, diversity: str) -> np.ndarray:
        """Which points have both values in every seed."""
        return np.isfinite(self.means_K[reward] + self.means_K[diversity])

    def front(self, reward: str, diversity: str) -> Front:
        """Of the means over seeds: no maximum is taken over single seeds, which would make noise look like gain."""
        usable_K = self.usable_K(reward, diversity)
        return pareto_front(self.means_K[reward][usable_K], self.means_K[diversity][usable_K])

    def plane_SKP2(self, reward: str, diversity: str) -> np.ndarray:
        """Reward and diversity per prompt, of usable points alone."""
        pair = [self.values_SKP[name][:, self.usable_K(reward, diversity)] for name in (reward, diversity)]
        return np.stack(pair, axis=-1)


def mean_over_prompts(values_SKP: np.ndarray) -> np.ndarray:
    """[S, K]: mean over the prompts that have a value, NaN where none has."""
    count_SK = np.isfinite(values_SKP).sum(axis=-1)
    return np.where(count_SK > 0, np.nansum(values_SKP, axis=-1) / np.maximum(count_SK, 1), np.nan)


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
    for name, one in values.items():
        refuse_low_bound(question, base[question.reward], np.nanmax(one.values_SKP[question.reward]), name)
    return Results(
        reward=question.reward,
        reward_bound=question.reward_bound,
        diversity=list(question.diversity),
        measures=measures,
        baseline=question.baseline,
        seeds=list(first.method.seeds),
        protocol=comparison.protocol,
        base=base,
        methods=[_method_result(one, values.get(question.baseline), question, base) for one in values.values()],
        notes=_notes(comparison, values, question),
    )


def _method_result(
    values: Values, baseline: Values | None, question: Question, base: dict[str, float | None]
) -> MethodResult:
    method = values.method
    others = None if baseline is None or method is baseline.method else baseline
    return MethodResult(
        name=method.name,
        training=method.evaluations[0].training,
        config_hashes=[evaluation.config_hash for evaluation in method.evaluations],
        files=[str(evaluation.path) for evaluation in method.evaluations],
        points=[_point_result(values, index) for index in range(len(method.points))],
        final=method.final,
        final_values={name: over_seeds(means_SK[:, method.final]) for name, means_SK in values.means_SK.items()},
        fronts={name: _front_result(values, others, question, base, name) for name in question.diversity},
    )


def _point_result(values: Values, index: int) -> PointResult:
    method, key = values.method, values.method.points[index]
    pictures = []
    for seed_index, evaluation in enumerate(method.evaluations):
        picture = method.point(seed_index, index).picture
        path = None if picture is None else evaluation.path.parent / picture
        pictures.append(str(path) if path is not None and path.is_file() else None)
    return PointResult(
        label=method.labels()[index],
        iteration=key.iteration,
        lora_scale=key.lora_scale,
        importance_power=key.importance_power,
        weights=key.weights,
        mean={name: finite(means_K[index]) for name, means_K in values.means_K.items()},
        per_seed={name: [finite(value) for value in means_SK[:, index]] for name, means_SK in values.means_SK.items()},
        pictures=pictures,
    )


def _front_result(
    values: Values, baseline: Values | None, question: Question, base: dict[str, float | None], name: str
) -> FrontResult:
    reward, usable_K = question.reward, values.usable_K(question.reward, name)
    points = front_indices(values.means_K[reward], values.means_K[name], usable_K)
    per_seed_SK2 = zip(values.means_SK[reward], values.means_SK[name], strict=True)
    scale = Scale(base[reward], base[name], FLOORS.get(name, 0.0), question.reward_bound)
    lowest = falls = None
    if ALIGNMENT in values.means_K:
        trained = [index for index in points if values.method.points[index].weights != "base"]
        lowest = min((values.means_K[ALIGNMENT][index] for index in trained), default=None)
        falls = np.nanmin(values.means_K[ALIGNMENT][[*trained, values.method.final]]) < base[ALIGNMENT] - ROUNDING
    return FrontResult(
        points=points,
        per_seed=[front_indices(reward_K, diversity_K, usable_K) for reward_K, diversity_K in per_seed_SK2],
        hypervolume=scale.hypervolume(values.front(reward, name)),
        lowest_alignment=lowest,
        alignment_falls=bool(falls),
        gains=None if baseline is None else _gains(values, baseline, scale, reward, name),
    )


def _gains(values: Values, baseline: Values, scale: Scale, reward: str, name: str):
    final_2 = np.array([baseline.means_K[measure][baseline.method.final] for measure in (reward, name)])
    pair = Pair(
        baseline.front(reward, name),
        values.front(reward, name),
        baseline.plane_SKP2(reward, name),
        values.plane_SKP2(reward, name),
        final_2,
    )
    return gains(pair, scale)


def front_indices(reward_K: np.ndarray, diversity_K: np.ndarray, usable_K: np.ndarray) -> list[int]:
    """Which points make the front, by ascending reward; of points that are alike the first."""
    front = pareto_front(reward_K[usable_K], diversity_K[usable_K])
    pairs = zip(front.reward_N, front.diversity_N, strict=True)
    return [int(np.flatnonzero((reward_K == reward) & (diversity_K == diversity))[0]) for reward, diversity in pairs]


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


def _notes(comparison: Comparison, values: dict[str, Values], question: Question) -> list[str]:
    notes = []
    seeds = len(comparison.methods[0].seeds)
    if seeds < MIN_SEEDS:
        notes.append(f"{seeds} training seed{'s' * (seeds > 1)}: no intervals, which need {MIN_SEEDS}")
    if question.baseline is None:
        notes.append("a single method: nothing to compare it with")
    if comparison.trained_differently:
        notes.append(f"not a fair comparison: {comparison.trained_differently}")
    kinds = {method.name: method.points[method.final].weights for method in comparison.methods}
    if len(set(kinds.values())) > 1:
        notes.append(f"final weights differ in kind: {', '.join(f'{name} {kind}' for name, kind in kinds.items())}")
    for one in values.values():
        for name in question.diversity:
            missing = [one.method.labels()[k] for k in np.flatnonzero(~one.usable_K(question.reward, name))]
            if missing:
                notes.append(
                    f"{one.method.name}: left out of its {name} front, as a seed has no value: {'; '.join(missing)}"
                )
    return notes
