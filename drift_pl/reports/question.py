"""The question that a comparison answers, checked against the measures and methods in it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from drift_pl.core.errors import UserError

DEFAULT_DIVERSITY = ("pairwise_distance", "coverage")
FLOORS = {"vendi": 1.0, "rke": 1.0}
"""Values of measures of diversity for identical images, where not 0."""
USUAL_BASELINE = "flowgrpo"


@dataclass(frozen=True)
class Question:
    """Which measures and methods to compare.

    Attributes:
        reward: the measure on the x-axis.
        diversity: measures of diversity; empty for those of `DEFAULT_DIVERSITY` that were measured.
        baseline: the method that others are compared with; None for the shortest name with `flowgrpo` in it, else the
            one whose name is in all others (`sd15_ddpo_aesthetic` in `sd15_ddpo_aesthetic_div`), else the first.
        reward_bound: the highest possible reward; None if not given.
    """

    reward: str = "reward"
    diversity: tuple[str, ...] = ()
    baseline: str | None = None
    reward_bound: float | None = None


def resolve_defaults(question: Question, base: Mapping[str, float | None], methods: Sequence[str]) -> Question:
    """The question with its defaults filled in; `baseline` stays None if there is only one method.

    Args:
        base: measure -> the base model's mean; None where no prompt has a value.
        methods: their names.

    Raises:
        UserError: it names an unknown measure or method, or a measure that the base model has no value of.
    """
    _check_known("reward", question.reward, "measure", base)
    diversity = question.diversity or tuple(name for name in DEFAULT_DIVERSITY if _has_room(name, base.get(name)))
    if not diversity:
        raise UserError(
            f"the base model has neither of {' and '.join(DEFAULT_DIVERSITY)}: give diversity=[A] of "
            f"{', '.join(name for name in base if name != question.reward and _has_room(name, base[name])) or 'none'}"
        )
    for name in diversity:
        _check_known("diversity", name, "measure", base)
    for key, name in (("reward", question.reward), *(("diversity", name) for name in diversity)):
        if base[name] is None:
            raise UserError(
                f"{key}={name}: the base model has no value on any prompt; choose another of "
                f"{', '.join(other for other in base if base[other] is not None)}"
            )
    for name in diversity:
        if name == question.reward:
            raise UserError(f"diversity={name} is the reward already: choose another of {', '.join(base)}")
        if not _has_room(name, base[name]):
            raise UserError(f"diversity={name}: the base model's is {base[name]}, no more than that of equal images")
    baseline = question.baseline
    if baseline is not None:
        _check_known("baseline", baseline, "method", methods)
    usual = sorted((name for name in methods if USUAL_BASELINE in name), key=len)
    common = [name for name in methods if all(name in other for other in methods)]
    baseline = (baseline or (usual or common or methods)[0]) if len(methods) > 1 else None
    return replace(question, diversity=diversity, baseline=baseline)


def _has_room(name: str, value: float | None) -> bool:
    """Whether the base model's diversity is more than that of identical images."""
    return value is not None and value > FLOORS.get(name, 0.0)


def refuse_low_bound(
    question: Question, base: Mapping[str, float | None], rewards_SKP: Mapping[str, np.ndarray]
) -> None:
    """With a bound below a measured reward, a hypervolume could exceed 1.

    Args:
        base: as in `resolve_defaults`.
        rewards_SKP: method -> rewards per seed, point and prompt; NaN where a prompt has none.

    Raises:
        UserError: a reward exceeds the bound, or the bound is not above the base model's reward.
    """
    bound = question.reward_bound
    if bound is None:
        return
    remedy = "give the highest possible reward"
    for name, values_SKP in rewards_SKP.items():
        if np.nanmax(values_SKP) > bound:
            raise UserError(
                f"reward_bound={bound:g} is too low: {name} has a prompt with {question.reward} "
                f"{np.nanmax(values_SKP):.6g}; {remedy}"
            )
    if not bound > (base[question.reward] or 0.0):
        raise UserError(f"reward_bound={bound:g} is no more than the base model's; {remedy}")


def _check_known(key: str, name: str, kind: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"{key}={name}: no such {kind}; {hint}there are {', '.join(known)}")
