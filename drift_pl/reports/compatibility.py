"""Refusals of evaluations that cannot be compared; each message names both files and the difference."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from drift_pl.core.errors import UserError
from drift_pl.evaluation.protocol import Protocol, first_difference
from drift_pl.evaluation.record import EVALUATE, Evaluation

BASE_TOLERANCE = 1e-6
"""Two evaluations of one base model with one protocol agree to this; relative above 1."""
ARGUMENTS = {
    "seeds_per_prompt": "seeds_per_prompt",
    "steps": "sampler.eval_steps",
    "guidance_scale": "sampler.eval_guidance_scale",
    "resolution": "evaluation.resolution",
    "precision": "trainer.precision",
    "vendi_order": "evaluation.vendi_order",
}
"""Fields of the protocol that an argument of `evaluate` sets."""
OF_SOME = ("measures", "heldout_judges")
"""Fields of the protocol that name what was measured besides; tables show of it what all runs have."""
TUNING = "tuning.json"
"""What `fit` measures along training."""
BUDGET = ("images", "optimiser_steps", "prompts_digest")

Groups = Mapping[str, Sequence[Evaluation]]
"""Method -> its evaluations in the order of seeds."""


def refuse_incomparable(groups: Groups) -> None:
    """Checks that each run is given once, and that protocol, base model and training seeds are the same.

    Raises:
        UserError: they are not, or there is no base model.
    """
    evaluations = [evaluation for group in groups.values() for evaluation in group]
    for group in groups.values():
        for first, second in zip(group, group[1:], strict=False):
            if first.seed == second.seed:
                raise UserError(
                    f"{first.path} and {second.path} are both seed {first.seed} of {first.method}: give each run once, "
                    f"or distinguish methods with {EVALUATE}{second.run_dir} method=NAME"
                )
    for evaluation in evaluations:
        if evaluation.base is None:  # what `fit` measured on the tuning prompts
            path, tuning = evaluation.path, " prompts=tuning" if evaluation.path.name == TUNING else ""
            raise UserError(f"{path} does not hold the base model: measure it, {EVALUATE}{evaluation.run_dir}{tuning}")
        _refuse_other_protocol(evaluations[0], evaluation)
        _refuse_other_base(evaluations[0], evaluation)
    seeds = {name: ", ".join(str(evaluation.seed) for evaluation in group) for name, group in groups.items()}
    first_name = next(iter(seeds))
    for name in seeds:
        if seeds[name] != seeds[first_name]:
            raise UserError(
                f"{first_name} has training seeds {seeds[first_name]} and {name} has {seeds[name]}: seeds are paired, "
                "give the same of each"
            )


def training_difference(groups: Groups, budget: Sequence[str] = BUDGET) -> str:
    """The first difference between the runs' trainings that makes their comparison unfair; else empty.

    Args:
        budget: what of the training all runs should have in common, of `BUDGET`.
    """
    for name, group in groups.items():
        for other in group:
            if other.config_hash != group[0].config_hash:
                return (
                    f"seeds of {name} were trained with different settings: config_hash is {group[0].config_hash} in "
                    f"{group[0].path} and {other.config_hash} in {other.path}"
                )
    evaluations = [evaluation for group in groups.values() for evaluation in group]
    first = evaluations[0]
    for field in budget:
        for other in evaluations:
            one, two = dict(first.training)[field], dict(other.training)[field]
            if one != two:
                return (
                    f"{first.method} and {other.method} were trained on different budgets: training.{field} is {one} "
                    f"in {first.path} and {two} in {other.path}"
                )
    return ""


def measured_differently(first: Evaluation, second: Evaluation) -> str:
    """How the measurements of two runs differ, in words; empty if the values that both have can be compared.

    Their numbers of images per prompt are not looked at: `evaluate` may have measured one anew, and the runs' summaries
    hold those of their own.
    """
    shared = _shared(first.protocol, second.protocol), _shared(second.protocol, first.protocol)
    difference = first_difference(*shared)
    return _in_words(first, second, *difference) if difference else ""


def _shared(protocol: Protocol, other: Protocol) -> Protocol:
    """A protocol without what only one of two says; what is measured besides is told by the name it begins with."""
    found, others = cast("dict[str, Any]", protocol) | {"seeds_per_prompt": 0}, cast("dict[str, Any]", other)
    for field in OF_SOME:
        names = {text.partition(" ")[0] for text in others[field]}
        found[field] = sorted(text for text in found[field] if text.partition(" ")[0] in names)
    return cast("Protocol", found)


def _in_words(first: Evaluation, second: Evaluation, field: str, one: Any, other: Any) -> str:
    return (
        f"{first.path} and {second.path} were measured differently: {field} is {json.dumps(one)} and "
        f"{json.dumps(other)}"
    )


def _refuse_other_protocol(first: Evaluation, second: Evaluation) -> None:
    difference = first_difference(first.protocol, second.protocol)
    if difference:
        field, one, _ = difference
        argument = f" {ARGUMENTS[field]}={json.dumps(one)}" if field in ARGUMENTS else ""
        raise UserError(
            f"{_in_words(first, second, *difference)}: measure both with the same, "
            f"{EVALUATE}{second.run_dir}{argument} fresh=true"
        )


def _refuse_other_base(first: Evaluation, second: Evaluation) -> None:
    bases = [evaluation.base.per_prompt for evaluation in (first, second) if evaluation.base]
    for measure in bases[0] | bases[1]:
        one, other = (np.array(base.get(measure, []), dtype=np.float64) for base in bases)
        if one.shape != other.shape or not np.allclose(one, other, BASE_TOLERANCE, BASE_TOLERANCE, equal_nan=True):
            raise UserError(
                f"{first.path} and {second.path}: one protocol, but the base model's {measure} differs "
                f"({_mean(one)} and {_mean(other)}): something else changed (weights, library or machine); measure "
                f"both in one place, {EVALUATE}{second.run_dir} fresh=true"
            )


def _mean(values_P: np.ndarray) -> str:
    return "none" if np.isnan(values_P).all() else f"{np.nanmean(values_P):.7g}"
