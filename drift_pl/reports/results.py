"""All numbers of a comparison in one dataclass, which is pareto.json; table, figure and page show nothing else."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT, VERSION = "drift_pl.pareto", 1


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval over training seeds.

    Attributes:
        value: None where it is not defined.
        low, high: None without an interval.
        note: why there is no value, or no interval; None where there are both.
        per_seed: the number of each seed alone; None where a seed has none.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str | None = None
    per_seed: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Level:
    """The gain at the level of the baseline's final point.

    Attributes:
        level: the baseline's final reward (gain in diversity) or diversity (gain in alignment); None if it has none.
        gain: None where the method's front does not hold the level.
        beyond: the method's front lies beyond the level, or does not come up to it; shown as ">".
        at_least: a lower bound of the gain, where one is known.
        note: why there is no gain.
    """

    level: float | None
    gain: float | None
    beyond: bool = False
    at_least: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Rewards:
    """Rewards of both fronts at one end of the common interval, raw and with the base model's subtracted."""

    baseline: float
    method: float
    baseline_above_base: float
    method_above_base: float


@dataclass(frozen=True)
class EqualGain:
    """A gain at equal alignment or at equal diversity: 0.43 is 43 % more.

    Attributes:
        gain: over the common interval.
        low, high: ends of the common interval, in reward or in diversity; None if the fronts have none.
        low_rewards, high_rewards: rewards at these ends.
        at_final: at the baseline's final point alone.
    """

    gain: Estimate
    low: float | None
    high: float | None
    low_rewards: Rewards | None
    high_rewards: Rewards | None
    at_final: Level


@dataclass(frozen=True)
class Gains:
    """What a method gains over the baseline by one measure of diversity.

    Attributes:
        diversity: gain in diversity at equal alignment (reward).
        ceiling: what it would be had the method kept the base model's diversity; None without a common interval.
        alignment: gain in reward above the base model's, at equal diversity.
        hypervolume: the method's minus the baseline's; no value without a bound of the reward.
    """

    diversity: EqualGain
    ceiling: float | None
    alignment: EqualGain
    hypervolume: Estimate


@dataclass(frozen=True)
class FrontResult:
    """A method's front by one measure of diversity.

    Attributes:
        points: indices of its points, by ascending reward; of means over seeds.
        per_seed: the same of each seed alone.
        hypervolume: as a share of what the judges' bound and the base's diversity allow; None without a bound.
        lowest_alignment: least alignment over its points; None where it was not measured.
        alignment_falls: it, or that of the final point, is below the base model's.
        gains: over the baseline; None for the baseline itself, or if there is none.
    """

    points: list[int]
    per_seed: list[list[int]]
    hypervolume: float | None
    lowest_alignment: float | None
    alignment_falls: bool
    gains: Gains | None


@dataclass(frozen=True)
class PointResult:
    """One point of a method.

    Attributes:
        label: as people read it.
        mean: measure -> mean over seeds of the mean over prompts; None where a seed has no value.
        per_seed: measure -> mean over prompts of each seed.
        pictures: each seed's grid of images, a path; None where there is none.
    """

    label: str
    iteration: int
    lora_scale: float
    importance_power: float | None
    weights: str
    mean: dict[str, float | None]
    per_seed: dict[str, list[float | None]]
    pictures: list[str | None]


@dataclass(frozen=True)
class MethodResult:
    """A method.

    Attributes:
        files: each seed's evaluation file.
        points: the base model first.
        final: index of the final point.
        final_values: measure -> mean and interval over seeds at the final point; besides `Results.measures` those of
            all prompts together, such as `fid`.
        fronts: measure of diversity -> front.
    """

    name: str
    training: dict[str, Any]
    config_hashes: list[str]
    files: list[str]
    points: list[PointResult]
    final: int
    final_values: dict[str, Estimate]
    fronts: dict[str, FrontResult]


@dataclass(frozen=True)
class Results:
    """Everything.

    Attributes:
        reward: the measure on the x-axis.
        reward_bound: the highest that judges can give; None if it was not said.
        diversity: measures of diversity.
        measures: every measure that all points have, the base's order.
        baseline: None with a single method.
        seeds: training seeds that every method has.
        protocol: how everything was measured.
        base: measure -> the base model's mean over prompts.
        notes: what a reader of the numbers must know.
    """

    reward: str
    reward_bound: float | None
    diversity: list[str]
    measures: list[str]
    baseline: str | None
    seeds: list[int]
    protocol: dict[str, Any]
    base: dict[str, float | None]
    methods: list[MethodResult]
    notes: list[str]

    def plain(self) -> dict[str, Any]:
        """As pareto.json holds it: dicts, lists, strings, finite numbers and None."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.plain(), indent=1, allow_nan=False) + "\n"


def finite(value: float) -> float | None:
    """JSON has no NaN: None stands for it."""
    return None if math.isnan(value) else float(value)
