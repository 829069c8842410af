"""The clipped surrogate by hand, the KL and the ratios against torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from drift_pl.functional.losses import (
    clipped_surrogate,
    divergence_masked_surrogate,
    gaussian_kl,
    normalised_log_ratio,
    normalised_step_weights,
    step_weight,
)
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
    """Catches in functional/losses.py: clip has no effect; pessimistic bound turned optimistic (minimum); sign of the
    advantage.
    """
    old = torch.tensor([-1.3])
    log_prob = (old + torch.tensor(ratio).log()).requires_grad_()
    loss, health = clipped_surrogate(log_prob - old, torch.tensor([advantage]), 0.2)
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
    clipped_surrogate(log_prob - log_prob.detach(), advantage, 1e-4)[0].sum().backward()
    (-advantage * Normal(theirs, 0.4).log_prob(x).flatten(1).mean(1)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_approx_kl_is_schulmans_k3_and_estimates_the_divergence(generator: torch.Generator) -> None:
    """Oracle: E_old[(r - 1) - log r] = KL(old || new), in closed form for two Gaussians.

    Catches in functional/losses.py: k3 with the ratio upside down.
    """
    old, new = Normal(0.0, 1.0), Normal(0.3, 1.0)
    x = torch.randn(200_000, generator=generator)
    _, health = clipped_surrogate(new.log_prob(x) - old.log_prob(x), torch.ones(len(x)), 0.2)
    k3 = health["approx_kl"]
    assert (k3 >= -1e-6).all()
    standard_error = float(k3.std() / len(x) ** 0.5)
    assert float(k3.mean()) == pytest.approx(0.3**2 / 2, abs=4 * standard_error)
    assert standard_error < 0.001  # sharp enough to tell it from |log r| and from (log r)^2
    one = clipped_surrogate(torch.tensor([0.3]), torch.ones(1), 0.2)[1]["approx_kl"]
    assert float(one) == pytest.approx(2.718281828**0.3 - 1 - 0.3, abs=1e-6)


def test_health_carries_no_gradient() -> None:
    log_prob = torch.zeros(3, requires_grad=True)
    _, health = clipped_surrogate(log_prob, torch.ones(3), 0.2)
    assert not any(value.requires_grad for value in health.values())


def test_the_divergence_of_two_steps_is_that_of_two_normals(generator: torch.Generator) -> None:
    """Catches in functional/losses.py: KL divided by std instead of its square."""
    mean, reference = torch.randn(2, 5, 4, 3, 3, generator=generator)
    expected = kl_divergence(Normal(mean, 0.25), Normal(reference, 0.25)).flatten(1).mean(1)
    torch.testing.assert_close(gaussian_kl(mean, reference, torch.tensor(0.25)), expected, rtol=1e-5, atol=0)


def test_the_divergence_pulls_the_mean_towards_the_reference(generator: torch.Generator) -> None:
    """Oracle: d/dm |m - m_ref|^2 / (2 std^2 n) = (m - m_ref) / (std^2 n), for n elements.

    Catches in functional/losses.py: KL without gradient (detached in the formula).
    """
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


def test_the_health_of_a_mean_over_elements_is_not_the_divergence(generator: torch.Generator) -> None:
    """Oracle: log r is normal with mean -k and variance 2 k / n, so that E[r] = exp(k / n - k)."""
    n, shift = 16, 0.3
    x = torch.randn(100_000, n, generator=generator)
    log_prob, old = (Normal(mean, 1.0).log_prob(x).mean(1) for mean in (shift, 0.0))
    _, health = clipped_surrogate(log_prob - old, torch.ones(len(x)), 0.2)
    k = shift**2 / 2
    standard_error = float(health["approx_kl"].std() / len(x) ** 0.5)
    assert float(health["approx_kl"].mean()) == pytest.approx(math.exp(k / n - k) - 1 + k, abs=4 * standard_error)
    assert standard_error < 1e-4 < k / 10  # sharp enough to tell it from k


def transitions(std: float, count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Old and new means, and the old policy's noise and samples, float64 [count, 2, 2, 3]; all shifts are equal."""
    old_mean, noise = torch.randn(2, count, 2, 2, 3, generator=generator, dtype=torch.float64)
    shift = 0.1 * torch.linspace(-1, 2, 12, dtype=torch.float64).view(2, 2, 3)
    return old_mean, old_mean + shift, noise, old_mean + std * noise


def log_density(x: torch.Tensor, mean: torch.Tensor, std: float) -> torch.Tensor:
    return Normal(mean, std).log_prob(x).flatten(1).mean(1)


def normalised(x: torch.Tensor, mean: torch.Tensor, old_mean: torch.Tensor, std: float) -> torch.Tensor:
    log_probs = log_density(x, mean, std), log_density(x, old_mean, std)
    return normalised_log_ratio(*log_probs, mean, old_mean, torch.tensor(std, dtype=mean.dtype))


@pytest.mark.parametrize("std", [0.05, 0.3, 1.5])
def test_on_the_old_policys_samples_the_normalised_ratio_is_centred_and_of_one_scale(
    std: float, generator: torch.Generator
) -> None:
    """Monte Carlo of the plain ratio, E[log r] = -mean(shift^2) / (2 std^2), and of the normalised one, four errors.

    The standard deviation of the mean of 12 e_d shift_d is sqrt(sum shift^2) / 12, whatever std; that of an estimated
    standard deviation is 1 / sqrt(2 count) of it.

    Catches in functional/losses.py: GRPO-Guard without its std; sign; factor 2.
    """
    count = 20_000
    old_mean, mean, _, x = transitions(std, count, generator)
    squares = (mean - old_mean)[0].square()
    plain = log_density(x, mean, std) - log_density(x, old_mean, std)
    error = float(plain.std()) / count**0.5
    expected = -float(squares.mean()) / (2 * std**2)
    assert float(plain.mean()) == pytest.approx(expected, abs=4 * error)
    assert expected + 4 * error < 0  # the bias shows
    centred = normalised(x, mean, old_mean, std)
    spread = float(squares.sum()) ** 0.5 / 12
    assert float(centred.mean()) == pytest.approx(0, abs=4 * spread / count**0.5)
    assert float(centred.std()) == pytest.approx(spread, rel=4 / (2 * count) ** 0.5)


@pytest.mark.parametrize("std", [0.05, 0.3, 1.5])
def test_the_normalised_log_ratio_is_the_noise_times_the_shift(std: float, generator: torch.Generator) -> None:
    """Image by image, in closed form; 1e-10 is float64's rounding of log-densities up to 1e3 in size."""
    old_mean, mean, noise, x = transitions(std, 50, generator)
    expected = (noise * (mean - old_mean)).flatten(1).mean(1)
    torch.testing.assert_close(normalised(x, mean, old_mean, std), expected, rtol=0, atol=1e-10)


def test_an_images_shift_moves_no_other_images_ratio(generator: torch.Generator) -> None:
    """flow_grpo's correction is a mean over the whole batch: there one image that moved far shifts every ratio.

    Catches in functional/losses.py: GRPO-Guard's correction averaged over the batch.
    Catches: GRPO-Guard's correction is one number for the batch.
    """
    old_mean, mean, _, x = transitions(0.3, 4, generator)
    before = normalised(x, mean, old_mean, 0.3)
    mean[2] += 5
    after = normalised(x, mean, old_mean, 0.3)
    assert torch.equal(after[[0, 1, 3]], before[[0, 1, 3]])
    assert abs(float(after[2] - before[2])) > 0.01


def test_before_the_first_update_the_normalised_ratio_is_one(generator: torch.Generator) -> None:
    mean, x = torch.randn(2, 5, 4, 3, 3, generator=generator)
    std = torch.tensor(0.2)
    log_prob = gaussian_log_prob(x, mean, std)
    assert torch.equal(normalised_log_ratio(log_prob, log_prob, mean, mean, std), torch.zeros(5))


@pytest.mark.parametrize("noise_level", [0.3, 0.9])
def test_with_inverse_length_every_step_pulls_the_velocity_alike(
    noise_level: float, generator: torch.Generator
) -> None:
    """Oracle: d(mean) / dv = -(1 + s^2 (1 - sigma) / (2 sigma)) length, and the gradient by the mean is e / n.

    So the weighted gradient is the noise, up to a factor that does not depend on the step's length.

    Catches in functional/losses.py: step weight 1 / sqrt(length).
    """
    x, noise = torch.randn(2, 1, 2, 3, 3, generator=generator)
    for sigma, sigma_next in ((0.9, 0.85), (0.6, 0.4), (0.3, 0.0)):
        at, to = torch.tensor(sigma), torch.tensor(sigma_next)
        diffusion = flow_sde_diffusion(at, torch.tensor(0.95), noise_level)
        v = torch.zeros_like(x).requires_grad_()
        mean, std = flow_sde_step(x, v, at, to, diffusion)
        next_x = mean.detach() + std * noise
        log_prob = gaussian_log_prob(next_x, mean, std)
        log_ratio = normalised_log_ratio(log_prob, log_prob.detach(), mean, mean.detach(), std)
        (step_weight("inverse_length", std, at - to) * log_ratio).sum().backward()
        s_squared = noise_level**2 * sigma / (1 - sigma)
        expected = -noise / noise.numel() * (1 + s_squared * (1 - sigma) / (2 * sigma))
        torch.testing.assert_close(v.grad, expected, rtol=1e-4, atol=1e-6)


def test_step_weights_by_hand() -> None:
    std = torch.tensor(0.25)
    for form, expected in (("none", 1.0), ("inverse_length", 8.0), ("std", 0.25)):
        for length in (0.125, torch.tensor(0.125)):
            weight = step_weight(form, std, length)
            assert weight.ndim == 0
            assert float(weight) == expected
    with pytest.raises(ValueError, match="none, inverse_length or std"):
        step_weight("inverse", std, 0.125)


def test_normalised_step_weights_average_to_one_and_keep_their_proportions() -> None:
    """8, 4, 4 and 0 have mean 4."""
    assert normalised_step_weights(torch.tensor([8.0, 4.0, 4.0, 0.0])).tolist() == [2.0, 1.0, 1.0, 0.0]


# advantage, ratio, KL in units of its limit, whether the mask of Flow-DPPO (eq. 18) stops it: 0 where A > 0, r > 1 and
# D > delta, or A < 0, r < 1 and D > delta; 1 otherwise
MASKED = [
    (1.0, 1.5, 2.0, True),
    (1.0, 0.5, 2.0, False),
    (-1.0, 0.5, 2.0, True),
    (-1.0, 1.5, 2.0, False),
    (1.0, 1.5, 0.5, False),
    (-1.0, 0.5, 0.5, False),
    (0.0, 1.5, 2.0, False),
]


@pytest.mark.parametrize(("advantage", "ratio", "kl", "masked"), MASKED)
def test_the_divergence_masks_only_what_leads_away(advantage: float, ratio: float, kl: float, masked: bool) -> None:
    """Loss -A r and slope -A r, or 0. Catches in functional/losses.py: a mask without direction; the limit exceeded
    from below."""
    log_ratio = torch.tensor([math.log(ratio)], requires_grad=True)
    inputs = (torch.tensor([advantage]), torch.tensor([kl * 1e-6]), 1e-6)
    loss, health = divergence_masked_surrogate(log_ratio, *inputs)
    loss.sum().backward()
    expected = 0.0 if masked else -advantage * ratio
    assert loss.item() == pytest.approx(expected)
    assert log_ratio.grad is not None
    assert log_ratio.grad.item() == pytest.approx(expected)
    assert float(health["clipped_high"] + health["clipped_low"]) == masked
    assert float(health["kl_old"]) == pytest.approx(kl * 1e-6)
