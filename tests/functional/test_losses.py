"""The clipped surrogate by hand, the divergence against torch.distributions."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from drift_pl.functional.losses import clipped_surrogate, gaussian_kl
from drift_pl.functional.transition import flow_sde_diffusion, flow_sde_step, gaussian_log_prob

# advantage, ratio, max(-A r, -A clip(r, 0.8, 1.2)), its derivative by log r: -A r where the first is the larger, else 0
BY_HAND = [
    (1.0, 1.5, -1.2, 0.0),
    (1.0, 0.5, -0.5, -0.5),
    (-1.0, 1.5, 1.5, 1.5),
    (-1.0, 0.5, 0.8, 0.0),
    (2.0, 1.1, -2.2, -2.2),
    (-2.0, 0.9, 1.8, 1.8),
    (0.0, 1.5, 0.0, 0.0),
]


@pytest.mark.parametrize(("advantage", "ratio", "expected", "slope"), BY_HAND)
def test_the_clip_stops_only_what_goes_too_far(advantage: float, ratio: float, expected: float, slope: float) -> None:
    old = torch.tensor([-1.3])
    log_prob = (old + torch.tensor(ratio).log()).requires_grad_()
    loss, health = clipped_surrogate(log_prob, old, torch.tensor([advantage]), 0.2)
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)
    assert log_prob.grad is not None
    assert float(log_prob.grad) == pytest.approx(slope, abs=1e-6)
    assert float(health["clipped_high"]) == (ratio > 1.2 and advantage > 0)
    assert float(health["clipped_low"]) == (ratio < 0.8 and advantage < 0)
    assert float(health["ratio_deviation"]) == pytest.approx(abs(ratio - 1), abs=1e-6)


def test_the_first_gradient_is_the_policy_gradient(generator: torch.Generator) -> None:
    """Oracle: -A grad log p, with log p from torch.distributions."""
    mean = torch.randn(6, 4, 2, 2, generator=generator)
    x = mean + 0.4 * torch.randn(mean.shape, generator=generator)
    advantage = torch.randn(6, generator=generator)
    ours, theirs = (mean.clone().requires_grad_() for _ in range(2))
    log_prob = gaussian_log_prob(x, ours, torch.tensor(0.4))
    clipped_surrogate(log_prob, log_prob.detach(), advantage, 1e-4)[0].sum().backward()
    (-advantage * Normal(theirs, 0.4).log_prob(x).flatten(1).mean(1)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_approx_kl_is_schulmans_k3_and_estimates_the_divergence(generator: torch.Generator) -> None:
    """Oracle: E_old[(r - 1) - log r] = KL(old || new), in closed form for two Gaussians."""
    old, new = Normal(0.0, 1.0), Normal(0.3, 1.0)
    x = torch.randn(200_000, generator=generator)
    _, health = clipped_surrogate(new.log_prob(x), old.log_prob(x), torch.ones(len(x)), 0.2)
    k3 = health["approx_kl"]
    assert (k3 >= -1e-6).all()
    standard_error = float(k3.std() / len(x) ** 0.5)
    assert float(k3.mean()) == pytest.approx(0.3**2 / 2, abs=4 * standard_error)
    assert standard_error < 0.001  # sharp enough to tell it from |log r| and from (log r)^2
    one = clipped_surrogate(torch.tensor([0.5]), torch.tensor([0.2]), torch.ones(1), 0.2)[1]["approx_kl"]
    assert float(one) == pytest.approx(2.718281828**0.3 - 1 - 0.3, abs=1e-6)


def test_health_carries_no_gradient() -> None:
    log_prob = torch.zeros(3, requires_grad=True)
    _, health = clipped_surrogate(log_prob, torch.zeros(3), torch.ones(3), 0.2)
    assert not any(value.requires_grad for value in health.values())


def test_the_divergence_of_two_steps_is_that_of_two_normals(generator: torch.Generator) -> None:
    mean, reference = torch.randn(2, 5, 4, 3, 3, generator=generator)
    expected = kl_divergence(Normal(mean, 0.25), Normal(reference, 0.25)).flatten(1).mean(1)
    torch.testing.assert_close(gaussian_kl(mean, reference, torch.tensor(0.25)), expected, rtol=1e-5, atol=0)


def test_the_divergence_pulls_the_mean_towards_the_reference(generator: torch.Generator) -> None:
    """Oracle: d/dm |m - m_ref|^2 / (2 std^2 n) = (m - m_ref) / (std^2 n), for n elements."""
    mean, reference = torch.randn(2, 3, 2, 2, 2, generator=generator)
    mean.requires_grad_()
    gaussian_kl(mean, reference, torch.tensor(0.5)).sum().backward()
    torch.testing.assert_close(mean.grad, ((mean - reference) / (0.25 * 8)).detach())


def test_times_the_step_length_it_is_the_form_of_flow_grpo(generator: torch.Generator) -> None:
    """Oracle: mean (m - m_ref)^2 / (2 s^2), whose denominator has the diffusion s and not the step's std s sqrt(D)."""
    x, v, v_reference = torch.randn(3, 2, 4, 4, 4, generator=generator)
    sigma, sigma_next = torch.tensor(0.7), torch.tensor(0.55)
    diffusion = flow_sde_diffusion(sigma, torch.tensor(0.9), 0.7)
    mean, std = flow_sde_step(x, v, sigma, sigma_next, diffusion)
    reference, _ = flow_sde_step(x, v_reference, sigma, sigma_next, diffusion)
    s_squared = 0.7**2 * 0.7 / (1 - 0.7)
    expected = ((mean - reference) ** 2).flatten(1).mean(1) / (2 * s_squared)
    torch.testing.assert_close(gaussian_kl(mean, reference, std) * (sigma - sigma_next), expected, rtol=1e-5, atol=0)
