"""What rows of docs/benchmark.md compare: a method's points, those of several methods together, or on equal prompts.

Points are [S, K, P, 2] as in `drift_pl.functional.intervals`: per seed, look and prompt, reward and diversity; the base
model first.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from plan import Job, Tier

from drift_pl.functional.fronts import Array

LOSS, KL = "objective.loss", "objective.kl_weight"


def strengths(tier: Tier) -> dict[str, tuple[str, ...]]:
    """Update -> the methods of a tier that are this update with a KL and nothing else, in the plan's order."""
    (plain, *_) = (job for job in tier.jobs if job.method == tier.baseline)
    found: dict[str, list[str]] = {}
    for job in {job.method: job for job in tier.jobs}.values():
        own = _own(job, plain)
        if job.source is None and KL in own and set(own) <= {LOSS, KL}:
            found.setdefault(own.get(LOSS, "surrogate"), []).append(job.method)
    return {update: tuple(methods) for update, methods in found.items()}


def joint(points: Mapping[str, Array], methods: Sequence[str]) -> Array:
    """The looks of several methods as if they were one's: its front is the union's.

    The best of more points is higher by noise alone, so whoever is compared with it has the harder task.
    """
    first, *others = (points[name] for name in methods)
    return np.concatenate([first, *(each[:, 1:] for each in others)], axis=1)


def on_equal_prompts(points: Mapping[str, Array]) -> dict[str, Array]:
    """The same, where diversity counts on the prompts that have one at every look of every method, seed by seed.

    Distance among on-prompt images needs two of them. As a model hits its prompts more often, harder prompts get a
    distance, which is not the model's loss: over equal prompts it does not count. Rewards stay those of all prompts.
    """
    has_SP = np.logical_and.reduce([np.isfinite(each[..., 1]).all(1) for each in points.values()])
    equal = {name: each.copy() for name, each in points.items()}
    for each in equal.values():
        each[..., 1] = np.where(has_SP[:, None], each[..., 1], np.nan)
    return equal


def prompts_with_diversity(points_SKP2: Array) -> Array:
    """How many prompts have a diversity at every look, int [S]."""
    return np.isfinite(points_SKP2[..., 1]).all(1).sum(-1)


def means(points_SKP2: Array) -> Array:
    """Averages over prompts and then over seeds, [K, 2]; NaN where a seed has no value at all."""
    present = np.isfinite(points_SKP2)
    count = present.sum(2)
    total = np.where(present, points_SKP2, 0).sum(2)
    return np.asarray((total / np.where(count > 0, count, np.nan)).mean(0))


def _own(job: Job, plain: Job) -> dict[str, str]:
    """Settings of a run that the plain one has not."""
    further = [each for each in job.overrides if each not in plain.overrides]
    return {key: value for key, _, value in (each.partition("=") for each in further)}
