"""Advantages beyond A_max reach updates by the forward process: a method may multiply them after they were clipped.

GARDO multiplies positive ones by a cosine distance, up to 2.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from drift_pl.training.reporting import IterationReport
from drift_pl.training.updates.matching import MatchingLoss, MatchingUpdate
from drift_pl.training.updates.nft import NftLoss, NftUpdate

ADVANTAGE = torch.tensor([7.0, 5.0, -9.0, 2.5, 0.0])
SHARED: dict[str, Any] = {
    **{"inner_epochs": 1, "updates": 1, "micro_batch": 8, "skip_zero_advantage": False, "kl_weight": 0.0},
    **{"nft_times": 1, "advantage_clip": 5.0},
}
ROWS = torch.arange(5)


def images_of(target: torch.Tensor) -> Any:
    experience = SimpleNamespace(advantage_KB=ADVANTAGE[None])
    context = SimpleNamespace(experience=experience, report=IterationReport())
    return SimpleNamespace(context=context, target_NBCHW=target[None], times_N=[0.5])


def test_advantage_weighted_matching_bounds_them(generator: torch.Generator) -> None:
    """At ratio 1 the surrogate is -A / A_max, and in [-1, 1].

    Catches in training/updates/matching.py: advantages over A_max that are not bounded.
    """
    velocity, target = torch.randn(2, 5, 1, 2, 2, generator=generator)
    update = MatchingUpdate(**SHARED, clip_range=1.0, awm_weighting="ghuber", awm_power=0.25, awm_pull=0.0)
    loss = MatchingLoss(update, images_of(target), velocity[None], None)
    found = loss._surrogate(velocity, velocity, ROWS, torch.ones(5), 0)
    assert found.tolist() == [-1.0, -1.0, 1.0, -0.5, 0.0]


def test_diffusion_nft_bounds_them(generator: torch.Generator) -> None:
    """r = 1/2 + A / (2 A_max) stays a weight in [0, 1]: r |+|^2 + (1 - r) |-|^2 by hand, in units of A_max / beta.

    Catches in functional/forward_process.py: a weight beyond 1.
    """
    velocity, old, target = torch.randn(3, 5, 1, 2, 2, generator=generator)
    update = NftUpdate(**SHARED, nft_beta=0.7)
    found = NftLoss(update, images_of(target), old[None])._policy_loss(velocity, old, target, ROWS, 0.5)
    share = torch.tensor([1.0, 1.0, 0.0, 0.75, 0.5])
    plus, minus = ((old + sign * 0.7 * (velocity - old) - target).square().flatten(1).mean(1) for sign in (1, -1))
    expected = 5 / 0.7 * (share * plus + (1 - share) * minus)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
