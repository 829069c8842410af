"""Annealed importance guidance: its weights by hand, and the mixture of two scores against torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Normal

from drift_pl.functional.guidance import aig_weight, mix_predictions


@pytest.mark.parametrize(
    ("progress", "power", "expected"),
    [
        (0.5, 1.0, 0.5),
        (0.5, 2.0, 0.25),
        (0.25, 1.5, 0.125),  # (1/2)^3
        (0.0, 2.0, 0.0),  # the base model at pure noise
        (1.0, 5.0, 1.0),  # the tuned model at the end
        (0.0, 0.0, 1.0),  # power 0: the tuned model throughout
        (0.3, 0.0, 1.0),
        (0.999, math.inf, 0.0),  # ever larger powers: the base model up to the very end
    ],
)
def test_the_weight_is_the_progress_to_a_power(progress: float, power: float, expected: float) -> None:
    assert aig_weight(progress, power) == pytest.approx(expected, abs=1e-15)


def test_the_tuned_model_takes_over_later_for_larger_powers() -> None:
    for power in (1.0, 1.25, 2.0, 5.0):
        weights = [aig_weight(step / 10, power) for step in range(11)]
        assert weights == sorted(weights)
        assert all(aig_weight(0.4, power) > aig_weight(0.4, larger) for larger in (power + 0.5, power + 3))


@pytest.mark.parametrize(
    ("progress", "power"), [(-0.01, 1.0), (1.01, 1.0), (0.5, -1.0), (math.nan, 1.0), (0.5, math.nan)]
)
def test_what_is_out_of_range_is_refused(progress: float, power: float) -> None:
    with pytest.raises(ValueError, match="is"):
        aig_weight(progress, power)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_ends_are_one_model_bit_for_bit(dtype: torch.dtype, generator: torch.Generator) -> None:
    """Also where the other model gives NaN, which 0 x NaN would let in."""
    finite = torch.randn(2, 4, 3, 3, generator=generator).to(dtype)
    broken = torch.full_like(finite, torch.nan)
    assert torch.equal(mix_predictions(finite, broken, 0.0), finite)
    assert torch.equal(mix_predictions(broken, finite, 1.0), finite)
    assert mix_predictions(finite, finite, 0.3).dtype == dtype


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.8])
def test_mixed_scores_are_the_score_of_the_geometric_mixture(weight: float) -> None:
    """Oracle: autograd through (1 - w) log p + w log q of torch.distributions.

    Catches in functional/guidance.py: models swapped; ends not exact.
    """
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).view(1, 3, 2, 2).requires_grad_()
    base, tuned = Normal(0.0, 1.0), Normal(1.0, 0.5)
    mixture = (1 - weight) * base.log_prob(x) + weight * tuned.log_prob(x)
    (expected,) = torch.autograd.grad(mixture.sum(), x)
    base_score, tuned_score = -x.detach(), (1.0 - x.detach()) / 0.25  # the scores of normals
    torch.testing.assert_close(mix_predictions(base_score, tuned_score, weight), expected, rtol=1e-12, atol=1e-12)
