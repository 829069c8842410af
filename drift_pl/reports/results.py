"""All numbers of a comparison in one dataclass: the content of pareto.json, table, figure and page."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT, VERSION = "drift_pl.pareto", 1


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval: of gains over training seeds and prompts, of final values over training seeds.

    Attributes:
        value: None where undefined.
        low, high: None without an interval.
        note: why there is no value or no interval.
        per_seed: the number of each seed alone; None where undefined.
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
        level: the baseline's final reward (for the gain in diversity) or diversity (for the gain in reward).
        gain: None where the level is outside of the method's front.
        beyond: whether the level is on the baseline's front alone, and the method's lies above it or does not reach it;
            shown as ">".
        at_least: a lower bound of the gain, where known.
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

    @classmethod
    def of(cls, baseline: float, method: float, base_reward: float) -> "Rewards":
        return cls(baseline, method, baseline - base_reward, method - base_reward)


@dataclass(frozen=True)
class EqualGain:
    """A gain in diversity at equal reward, or in reward at equal diversity: 0.43 means 43 % more.

    Attributes:
        gain: over the common interval.
        low, high: ends of the common interval, in reward or in diversity; None without one.
        low_rewards, high_rewards: rewards at these ends.
        at_final: at the baseline's final point alone.
    """

    gain: Estimate
    low: float | None
    high: float | None
    low_rewards: Rewards | None
    high_rewards: Rewards | None
    at_final: Level

    @classmethod
    def none(cls, reason: Exception, at_final: Level) -> "EqualGain":
        return cls(Estimate(None, note=str(reason)), None, None, None, None, at_final)


@dataclass(frozen=True)
class Gains:
    """A method's gains over the baseline by one measure of diversity.

    Attributes:
        diversity: gain in diversity at equal reward.
        ceiling: this gain if the method kept all of the base model's diversity; None without a common interval.
        alignment: gain in reward above the base model's, at equal diversity (pareto.json's name for it since 0.1).
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
        per_seed: the same for each seed alone.
        hypervolume: share of the area that the reward's bound and the base's diversity allow; None without a bound.
        lowest_alignment: over its trained points; None where it was not measured.
        alignment_falls: whether it, or that of the final point, is below the base model's.
        gains: over the baseline; None for the baseline itself.
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
        mean: measure -> mean over seeds of the mean over prompts; None where a seed has no value.
        per_seed: measure -> mean over prompts of each seed.
        pictures: path of each seed's image grid, or None.
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
        final_values: measure -> mean and interval over seeds at the final point; `Results.measures`, and those of all
            prompts together, such as `fid`.
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
    """The content of pareto.json.

    Attributes:
        reward: the measure on the x-axis.
        reward_bound: the highest possible reward; None if not given.
        diversity: measures of diversity.
        measures: every measure that all points have, in the base's order.
        baseline: None with a single method.
        seeds: training seeds of every method.
        base: measure -> the base model's mean over prompts.
        notes: caveats.
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
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    def to_json(self) -> str:
        """One line, and seven digits: programs read it, and no figure of a comparison is known to more."""
        return json.dumps(rounded(self.plain()), allow_nan=False) + "\n"


def rounded(content: Any, digits: int = 7) -> Any:
    """Dicts and lists with every float rounded to as many significant digits."""
    if isinstance(content, dict):
        return {key: rounded(value, digits) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value, digits) for value in content]
    return float(f"{content:.{digits}g}") if isinstance(content, float) else content


def finite(value: float) -> float | None:
    """JSON has no NaN, so None stands for it."""
    return None if math.isnan(value) else float(value)
