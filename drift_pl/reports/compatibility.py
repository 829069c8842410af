"""Evaluations that cannot be compared are refused here; each message names both files and what differs."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from drift_pl.core.errors import UserError
from drift_pl.evaluation.record import Evaluation

EVALUATE = "python -m drift_pl.evaluate ckpt_path="
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
BUDGET = ("images", "optimiser_steps", "prompts_digest")

Groups = Mapping[str, Sequence[Evaluation]]
"""Method -> its evaluations in the order of seeds."""


def refuse_incomparable(groups: Groups) -> None:
    """One run twice, no base model, another protocol, another base model, other training seeds.

    Raises:
        UserError: see above.
    """
    evaluations = [evaluation for group in groups.values() for evaluation in group]
    for group in groups.values():
        _refuse_twice(group)
    for evaluation in evaluations:
        _refuse_without_base(evaluation)
        _refuse_other_protocol(evaluations[0], evaluation)
        _refuse_other_base(evaluations[0], evaluation)
    _refuse_other_seeds(groups)


def training_difference(groups: Groups) -> str:
    """In words, the first difference in how the runs were trained that makes their comparison unfair; else empty."""
    for name, group in groups.items():
        for other in group:
            if other.config_hash != group[0].config_hash:
                return (
                    f"seeds of {name} were trained with different settings: config_hash is {group[0].config_hash} in "
                    f"{group[0].path} and {other.config_hash} in {other.path}"
                )
    evaluations = [evaluation for group in groups.values() for evaluation in group]
    first = evaluations[0]
    for field in BUDGET:
        for other in evaluations:
            one, two = dict(first.training)[field], dict(other.training)[field]
            if one != two:
                return (
                    f"{first.method} and {other.method} were trained on different budgets: training.{field} is {one} "
                    f"in {first.path} and {two} in {other.path}"
                )
    return ""


def _refuse_twice(group: Sequence[Evaluation]) -> None:
    for first, second in zip(group, group[1:], strict=False):
        if first.seed == second.seed:
            raise UserError(
                f"{first.path} and {second.path} are both seed {first.seed} of {first.method}: give each run once, or "
                f"tell methods apart with {EVALUATE}{second.run_dir} method=NAME"
            )


def _refuse_without_base(evaluation: Evaluation) -> None:
    if evaluation.base is None:  # looks of `fit` at the tuning prompts
        path, run_dir = evaluation.path, evaluation.run_dir
        raise UserError(f"{path} does not hold the base model: measure it, {EVALUATE}{run_dir} prompts=tuning")


def _refuse_other_protocol(first: Evaluation, second: Evaluation) -> None:
    for field in first.protocol | second.protocol:
        one, other = first.protocol.get(field), second.protocol.get(field)
        if one != other:
            argument = f" {ARGUMENTS[field]}={json.dumps(one)}" if field in ARGUMENTS else ""
            raise UserError(
                f"{first.path} and {second.path} differ in protocol.{field} ({_shown(field, one, other)}): measure "
                f"both alike, {EVALUATE}{second.run_dir}{argument} fresh=true"
            )


def _shown(field: str, one: object, other: object) -> str:
    if field == "prompts" and isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return f"{len(one)} prompts and {len(other)}"
        number = next(index for index, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
        return f"prompt {number + 1} is {one[number]!r} and {other[number]!r}"
    return f"{json.dumps(one)} and {json.dumps(other)}"


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


def _refuse_other_seeds(groups: Groups) -> None:
    seeds = {name: [evaluation.seed for evaluation in group] for name, group in groups.items()}
    first = next(iter(seeds))
    for name in seeds:
        if seeds[name] != seeds[first]:
            raise UserError(
                f"{first} has training seeds {_listed(seeds[first])} and {name} has {_listed(seeds[name])}: seeds are "
                "paired, give the same of each"
            )


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
