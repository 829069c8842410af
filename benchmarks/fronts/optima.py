"""Fronts of optimal methods, estimated from samples of the base model; `room.py` draws them.

Weights are fitted on one half of a prompt's images and measured on the other, in both directions. A mixture of two
optima has the mean of their rewards and at least the mean of their distances, so fronts are concave hulls.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from tilting import effective_samples, tilt, tilted_mean, weighted_pairwise_distance
from torch import Tensor

from drift_pl.functional.fronts import Front, diversity_gain, pareto_front

# in units of the reward's mean standard deviation within a prompt
KL_WEIGHTS = (10.0, 3.0, 1.5, 1.0, 0.6, 0.35, 0.2)
DIVERSITY_WEIGHTS = (0.5, 1.5, 3.0, 6.0)
FEWEST_EFFECTIVE = 10
TINY = 1e-12
DISTANCE = "pairwise_distance"


class Samples(NamedTuple):
    """N images of the base model for each of P prompts, as measured."""

    reward_PN: Tensor
    evaluation_PND: Tensor  # by the evaluation encoder
    on_prompt_PN: Tensor  # bool: shows everything that the prompt names

    def part(self, images: slice) -> "Samples":
        return Samples(*(field[:, images] for field in self))


def weighted(samples: Samples, weight_PN: Tensor) -> dict[str, float]:
    """Reward, evaluation distance and alignment of a distribution over images, averaged over prompts.

    `valid_pairwise_distance`, among on-prompt images, is averaged over the prompts that have two of them, which are the
    same for all weights; it is left out where no prompt has.
    """
    found = {
        "reward": float((weight_PN * samples.reward_PN).sum(-1).mean()),
        "pairwise_distance": float(weighted_pairwise_distance(samples.evaluation_PND, weight_PN).mean()),
        "alignment": float((weight_PN * samples.on_prompt_PN).sum(-1).mean()),
    }
    two_P = samples.on_prompt_PN.sum(-1) > 1
    if two_P.any():
        # weights may underflow, and two of them must not
        among_PN = weight_PN[two_P].clamp(min=TINY) * samples.on_prompt_PN[two_P]
        among_PN = among_PN / among_PN.sum(-1, keepdim=True)
        distance_P = weighted_pairwise_distance(samples.evaluation_PND[two_P], among_PN)
        found["valid_pairwise_distance"] = float(distance_P.mean())
    return found


def measure(samples: Samples, shaping_PND: Tensor, kl_weight: float, diversity_weight: float) -> dict[str, float]:
    """Metrics of the optimum, averaged over prompts and over the two halves of their images."""
    half = samples.reward_PN.shape[1] // 2
    halves = (slice(None, half), slice(half, None))
    found = []
    for fitted, measured in (halves, halves[::-1]):
        reward_PN = samples.reward_PN[:, fitted]
        mean_PD = tilted_mean(reward_PN, shaping_PND[:, fitted], kl_weight, diversity_weight)
        part = samples.part(measured)
        weight_PN = tilt(part.reward_PN, shaping_PND[:, measured], mean_PD, kl_weight, diversity_weight).softmax(-1)
        found.append({**weighted(part, weight_PN), "effective_samples": float(effective_samples(weight_PN).median())})
    first, second = found
    means = {name: (first[name] + second[name]) / 2 for name in first if name in second}
    return {"kl_weight": kl_weight, "diversity_weight": diversity_weight, **means}


def front_of(points: Sequence[dict[str, float]], base: dict[str, float], diversity: str = DISTANCE) -> Front:
    """Concave hull of the points that gain reward, from the base model on."""
    reached = [base, *(point for point in points if point["reward"] >= base["reward"])]
    front = pareto_front([point["reward"] for point in reached], [point[diversity] for point in reached])
    hull: list[tuple[float, float]] = []
    for reward, distance in zip(front.reward_N.tolist(), front.diversity_N.tolist(), strict=True):
        while len(hull) > 1 and _is_below(hull[-1], hull[-2], (reward, distance)):
            hull.pop()
        hull.append((reward, distance))
    return pareto_front(*zip(*hull, strict=True))


def _is_below(point: tuple[float, float], left: tuple[float, float], right: tuple[float, float]) -> bool:
    """Whether a point lies on or below the line between two others."""
    slope = (right[1] - left[1]) / (right[0] - left[0])
    return point[1] <= left[1] + slope * (point[0] - left[0])


def explore(samples: Samples, embeddings: dict[str, Tensor]) -> dict[str, Any]:
    """The base model, its on-prompt images, and points of every kind of optimum.

    Only points with enough effective samples are kept; ``embeddings`` are those used for shaping.
    """
    spread = float(samples.reward_PN.std(1).mean())
    kinds: dict[str, list[dict[str, float]]] = {}
    for name in ("kl", *embeddings):
        strengths = (0.0,) if name == "kl" else (0.0, *DIVERSITY_WEIGHTS)
        shaping_PND = embeddings.get(name, samples.evaluation_PND)
        points = [
            measure(samples, shaping_PND, kl * spread, strength * spread) for kl in KL_WEIGHTS for strength in strengths
        ]
        kinds[name] = [point for point in points if point["effective_samples"] >= FEWEST_EFFECTIVE]
    equal_PN = torch.full_like(samples.reward_PN, 1 / samples.reward_PN.shape[1])
    room = {"spread": spread, "base": weighted(samples, equal_PN), "kinds": kinds}
    fitting_PN = samples.on_prompt_PN.double()
    if (fitting_PN.sum(-1) > 1).all():  # a distance needs two images
        room["on_prompt"] = weighted(samples, fitting_PN / fitting_PN.sum(-1, keepdim=True))
    return room


def gains_over_kl(room: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Diversity gain at equal reward over the optimal KL method, over the rewards above the base's that both reach.

    Raises:
        NoOverlap: there are no such rewards.
    """
    fronts = {name: front_of(points, room["base"]) for name, points in room["kinds"].items()}
    gains = {name: diversity_gain(fronts["kl"], front) for name, front in fronts.items() if name != "kl"}
    return {
        name: {"value": gain.value, "from_reward": gain.low, "to_reward": gain.high} for name, gain in gains.items()
    }
