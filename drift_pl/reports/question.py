"""What is asked of a comparison, held against the measures and methods that there are."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from drift_pl.core.errors import UserError

DEFAULT_DIVERSITY = ("pairwise_distance", "coverage")
FLOORS = {"vendi": 1.0, "rke": 1.0}
"""What measures of diversity give for images that are all alike, where that is not 0."""
USUAL_BASELINE = "flowgrpo"


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        reward: the measure on the x-axis.
        diversity: measures of diversity; empty for those of `DEFAULT_DIVERSITY` that there are.
        baseline: the method that others are held against; None for the shortest name with `flowgrpo` in it, else the
            first method.
        reward_bound: the highest reward that judges can give; None if nobody said.
    """

    reward: str = "reward"
    diversity: tuple[str, ...] = ()
    baseline: str | None = None
    reward_bound: float | None = None


def understand(question: Question, base: Mapping[str, float | None], methods: Sequence[str]) -> Question:
    """The question with its defaults filled in; `baseline` stays None if there is one method alone.

    Args:
        base: measure -> the base model's mean; None where no prompt has a value.
        methods: their names.

    Raises:
        UserError: it names a measure or a method that is not there, or one of which the base model has none.
    """
    reward = _known("reward", question.reward, base)
    wanted = question.diversity or tuple(name for name in DEFAULT_DIVERSITY if name in base)
    if not wanted:
        raise UserError(
            f"neither of {' and '.join(DEFAULT_DIVERSITY)} was measured: give diversity=[A] of {_list(base)}"
        )
    diversity = tuple(_known("diversity", name, base) for name in wanted)
    for name in diversity:
        if name == reward:
            raise UserError(f"diversity={name} is the reward already: choose another of {_list(base)}")
        floor = FLOORS.get(name, 0.0)
        if not (base[name] or 0.0) > floor:
            raise UserError(f"diversity={name}: the base model's is {base[name]}, no more than that of equal images")
    return replace(question, reward=reward, diversity=diversity, baseline=_baseline(question.baseline, methods))


def refuse_low_bound(
    question: Question, base: Mapping[str, float | None], rewards_SKP: Mapping[str, np.ndarray]
) -> None:
    """Normalising by less than was reached would make a hypervolume above 1.

    Args:
        base: as in `understand`.
        rewards_SKP: method -> rewards per seed, point and prompt; NaN where a prompt has none.

    Raises:
        UserError: a reward exceeds the bound, or the bound leaves nothing above the base model's.
    """
    bound = question.reward_bound
    if bound is None:
        return
    remedy = "give the highest that the judges can give"
    for name, values_SKP in rewards_SKP.items():
        if np.nanmax(values_SKP) > bound:
            raise UserError(
                f"reward_bound={bound:g} is too low: {name} has a prompt with {question.reward} "
                f"{np.nanmax(values_SKP):.6g}; {remedy}"
            )
    if not bound > (base[question.reward] or 0.0):
        raise UserError(f"reward_bound={bound:g} is what the base model has already; {remedy}")


def _known(key: str, name: str, base: Mapping[str, float | None]) -> str:
    if name not in base:
        near = difflib.get_close_matches(name, base, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"{key}={name}: no such measure; {hint}there are {_list(base)}")
    if base[name] is None:
        raise UserError(f"{key}={name}: the base model has none, on no prompt; choose another of {_list(base)}")
    return name


def _baseline(asked: str | None, methods: Sequence[str]) -> str | None:
    if asked is not None and asked not in methods:
        near = difflib.get_close_matches(asked, methods, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"baseline={asked}: no such method; {hint}there are {', '.join(methods)}")
    if len(methods) < 2:
        return None
    usual = sorted((name for name in methods if USUAL_BASELINE in name), key=len)
    return asked or (usual or methods)[0]


def _list(names: Mapping[str, float | None]) -> str:
    return ", ".join(names)
