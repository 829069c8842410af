"""One sampling step, against torch.distributions, numpy, diffusers and the closed form of a Gaussian flow."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from drift_pl.functional.transition import (
    flow_cps_step,
    flow_dpm2_step,
    flow_ode_step,
    flow_sde_diffusion,
    flow_sde_step,
    gaussian_log_prob,
)

# Data of the Gaussian flow: x_0 ~ N(1.5, 0.5^2), noise ~ N(0, 1).
DATA_MEAN, DATA_STD = 1.5, 0.5


def shifted_sigmas(num_steps: int, shift: float = 3.0) -> Tensor:
    """1 ... 0 with the time shift of Stable Diffusion 3 (arXiv 2403.03206, eq. 23)."""
    time = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    return (shift * time / (1 + (shift - 1) * time)).float()


def marginal(sigma: float) -> tuple[float, float]:
    """Mean and variance of x_sigma = (1 - sigma) x_0 + sigma noise."""
    return (1 - sigma) * DATA_MEAN, (1 - sigma) ** 2 * DATA_STD**2 + sigma**2


def gaussian_velocity(x_BCHW: Tensor, sigma: float) -> Tensor:
    """E[noise - x_0 | x_sigma = x], by the regression formula of joint Gaussians."""
    mean, variance = marginal(sigma)
    covariance = sigma - (1 - sigma) * DATA_STD**2
    return -DATA_MEAN + covariance / variance * (x_BCHW - mean)


def sampled_moments(sigmas: Tensor, noise_level: float, kind: str = "flow_sde") -> tuple[float, float]:
    """Exact mean and std of the sampler's output: every step is affine in x, so two points determine it."""
    points = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    mean, variance = 0.0, 1.0
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
        velocity = gaussian_velocity(points, float(sigma))
        if kind == "flow_cps":
            moved, std = flow_cps_step(points, velocity, sigma, sigma_next, noise_level)
        elif noise_level:
            constant = torch.tensor(noise_level)
            diffusion = constant if kind == "dance_sde" else flow_sde_diffusion(sigma, sigmas[1], noise_level)
            moved, std = flow_sde_step(points, velocity, sigma, sigma_next, diffusion)
        else:
            moved, std = flow_ode_step(points, velocity, sigma, sigma_next), torch.tensor(0.0)
        offset, slope = float(moved[0]), float(moved[1] - moved[0])
        mean, variance = offset + slope * mean, slope**2 * variance + float(std) ** 2
    return mean, variance**0.5


def test_log_probability_is_the_mean_over_elements_of_the_normal_density(generator: torch.Generator) -> None:
    """Catches in functional/transition.py: log-probability summed instead of averaged; log-probability without its
    normaliser.
    """
    mean = torch.randn(5, 4, 3, 2, generator=generator)
    std = torch.tensor(0.3)
    x = mean + 0.5 * torch.randn(mean.shape, generator=generator)
    expected = torch.distributions.Normal(mean.double(), std.double()).log_prob(x.double()).flatten(1).mean(1)
    # float32 rounding of 24 terms of magnitude 1 to 10
    torch.testing.assert_close(gaussian_log_prob(x, mean, std).double(), expected, rtol=0, atol=5e-6)


def test_log_probability_is_computed_in_float32_from_half_precision_states(generator: torch.Generator) -> None:
    """Catches in functional/transition.py: log-probability in the states' half precision."""
    mean = torch.randn(2, 4, 8, 8, generator=generator)
    x = (mean + torch.randn(mean.shape, generator=generator)).bfloat16()
    log_prob = gaussian_log_prob(x, mean, torch.tensor(1.0))
    assert log_prob.dtype == torch.float32
    assert torch.equal(log_prob, gaussian_log_prob(x.float(), mean, torch.tensor(1.0)))


@pytest.mark.parametrize(("sigma", "sigma_next"), [(0.9, 0.7), (0.5, 0.45), (0.2, 0.0)])
def test_the_sde_step_is_euler_maruyama_of_drift_plus_score(
    sigma: float, sigma_next: float, generator: torch.Generator
) -> None:
    """Oracle: dx = [v - s^2/2 score] dsigma + s dw backwards, transcribed in numpy float64 from the score.

    Catches in functional/transition.py: step noise with s instead of s sqrt(D); score correction doubled; score
    correction left out (noise without drift); sign of the score term in v.
    """
    x = torch.randn(3, 4, 2, 2, generator=generator)
    v = torch.randn(3, 4, 2, 2, generator=generator)
    level = 0.7
    s = level * np.sqrt(sigma / (1 - sigma))
    x64, v64 = x.double().numpy(), v.double().numpy()
    noise_estimate = x64 + (1 - sigma) * v64
    score = -noise_estimate / sigma
    length = sigma - sigma_next
    expected_mean = x64 - v64 * length + 0.5 * s**2 * score * length

    tensors = torch.tensor(sigma), torch.tensor(sigma_next)
    diffusion = flow_sde_diffusion(tensors[0], torch.tensor(0.95), level)
    mean, std = flow_sde_step(x, v, *tensors, diffusion)
    np.testing.assert_allclose(mean.double().numpy(), expected_mean, rtol=0, atol=2e-6)  # float32 rounding
    assert float(std) == pytest.approx(s * np.sqrt(length), rel=1e-6)


def test_at_pure_noise_the_second_noise_level_stands_in_and_everything_is_finite() -> None:
    """Catches in functional/transition.py: pole at sigma = 1 left in."""
    sigmas = torch.tensor([1.0, 0.8, 0.0])
    diffusion = flow_sde_diffusion(sigmas[0], sigmas[1], 0.7)
    assert float(diffusion) == pytest.approx(0.7 * np.sqrt(1 / 0.2), rel=1e-6)  # as elsewhere: 1 - sigmas[1] below
    mean, std = flow_sde_step(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), sigmas[0], sigmas[1], diffusion)
    # the score of N(0, 1) at 1 is -1: mean = 1 - s^2 / 2 * 0.2
    assert float(mean) == pytest.approx(1 - 0.49 / 0.2 / 2 * 0.2, rel=1e-6)
    assert float(std) == pytest.approx(0.7, rel=1e-6)


def test_a_coefficients_preserving_step_in_numpy(generator: torch.Generator) -> None:
    """Oracle: Flow-CPS's published formula, from the predicted image and the predicted noise.

    Catches in functional/transition.py: Flow-CPS: coefficient, std or noise estimate of another noise level; angle
    doubled.
    """
    x, v = torch.randn(2, 3, 2, 2, generator=generator), torch.randn(2, 3, 2, 2, generator=generator)
    sigma, sigma_next, level = 0.8, 0.5, 0.6
    x64, v64 = x.double().numpy(), v.double().numpy()
    std64 = sigma_next * np.sin(level * np.pi / 2)
    image, noise = x64 - sigma * v64, x64 + (1 - sigma) * v64
    expected = (1 - sigma_next) * image + np.sqrt(sigma_next**2 - std64**2) * noise
    mean, std = flow_cps_step(x, v, torch.tensor(sigma), torch.tensor(sigma_next), level)
    np.testing.assert_allclose(mean.double().numpy(), expected, rtol=0, atol=2e-6)  # float32 rounding
    assert float(std) == pytest.approx(std64, rel=1e-6)


@pytest.mark.parametrize("num_steps", [2, 6, 40])
@pytest.mark.parametrize("level", [0.3, 0.7, 1.0])
def test_the_first_coefficients_preserving_step_keeps_the_variance_however_long_it_is(
    num_steps: int, level: float
) -> None:
    """At pure noise the predicted image is the data's mean, so the variance is sigma_next^2; Euler's step adds some."""
    sigmas = torch.linspace(1, 0, num_steps + 1)
    _, std = sampled_moments(sigmas[:2], level, "flow_cps")
    assert std == pytest.approx(float(sigmas[1]), rel=1e-6)


def test_the_ode_step_is_the_step_of_diffusers_scheduler(generator: torch.Generator) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(6)
    ours = theirs = torch.randn(2, 4, 8, 8, generator=generator)
    for step, timestep in enumerate(scheduler.timesteps):
        velocity = torch.randn(ours.shape, generator=generator)
        theirs = scheduler.step(velocity, timestep, theirs).prev_sample
        ours = flow_ode_step(ours, velocity, scheduler.sigmas[step], scheduler.sigmas[step + 1])
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("kind", "noise_level", "published_stds"),
    [
        ("ode", 0.0, (0.369, 0.465, 0.495)),
        ("flow_sde", 0.7, (0.424, 0.479, 0.499)),
        ("dance_sde", 0.3, (0.385, 0.468, 0.497)),
        ("flow_cps", 0.8, (0.315, 0.371, 0.398)),
    ],
)
@pytest.mark.parametrize(("place", "num_steps"), list(enumerate((10, 40, 400))))
def test_samples_of_a_gaussian_flow_have_the_spread_that_others_measured(
    kind: str, noise_level: float, published_stds: tuple[float, ...], place: int, num_steps: int
) -> None:
    """Oracle: figures of an independent implementation, 400,000 samples at shift 3. Flow-CPS stays below 0.5."""
    published_std = published_stds[place]
    mean, std = sampled_moments(shifted_sigmas(num_steps), noise_level, kind)
    assert mean == pytest.approx(DATA_MEAN, abs=1e-4)  # exact but for float32 rounding in up to 400 steps
    # three digits printed, and three standard errors of a std of 400,000 samples: 0.5 / sqrt(2 N)
    assert std == pytest.approx(published_std, abs=5e-4 + 3 * 0.5 / np.sqrt(2 * 400_000))


@pytest.mark.parametrize("noise_level", [0.0, 0.3, 0.7])
def test_the_spread_converges_to_that_of_the_data(noise_level: float) -> None:
    """Both samplers have the flow's marginals: the error of Euler's method falls with the step length."""
    errors = [abs(sampled_moments(shifted_sigmas(steps), noise_level)[1] - DATA_STD) for steps in (40, 400)]
    assert errors[1] < 4e-3
    assert errors[1] < errors[0] / 8


@pytest.mark.parametrize("noise_level", [0.0, 0.7])
def test_half_way_the_spread_is_that_of_the_noised_data(noise_level: float) -> None:
    """Oracle: x_sigma = (1 - sigma) x_0 + sigma noise has a closed-form marginal at every noise level."""
    sigmas = shifted_sigmas(800)
    end = int((sigmas - 0.4).abs().argmin())
    mean, std = sampled_moments(sigmas[: end + 1], noise_level)
    expected_mean, expected_variance = marginal(float(sigmas[end]))
    # Euler's error at 800 steps: measured at 0 (mean) and below 1e-3 (std), a quarter of that at 200
    assert mean == pytest.approx(expected_mean, abs=1e-4)
    assert std == pytest.approx(expected_variance**0.5, abs=2e-3)


def solve(sigmas: Tensor, noise: Tensor, second_order: bool) -> Tensor:
    state, before = noise, None
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        clean = state - sigma * gaussian_velocity(state, float(sigma))
        last = step == len(sigmas) - 2
        state = flow_dpm2_step(state, clean, sigma, sigma_next, before if second_order and not last else None)
        before = (sigma, clean)
    return state


def test_dpm_solver_2_is_diffusers(generator: torch.Generator) -> None:
    """Oracle: diffusers' multistep DPM-Solver++ on the same shifted grid.

    Catches in functional/transition.py: r inverted; the correction of the wrong sign.
    """
    sigmas, noise = shifted_sigmas(8), torch.randn(4, 3, 2, 2, generator=generator)
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", solver_order=2, prediction_type="flow_prediction", use_flow_sigmas=True,
        final_sigmas_type="zero", lower_order_final=True,
    )  # fmt: skip
    scheduler.set_timesteps(8)
    scheduler.sigmas, scheduler.timesteps = sigmas, sigmas[:-1] * 1000
    theirs = noise
    for sigma, timestep in zip(sigmas[:-1], scheduler.timesteps, strict=True):
        theirs = scheduler.step(gaussian_velocity(theirs, float(sigma)), timestep, theirs).prev_sample
    torch.testing.assert_close(solve(sigmas, noise, second_order=True), theirs, rtol=1e-5, atol=1e-5)


def test_dpm_solver_2_is_of_second_order(generator: torch.Generator) -> None:
    """Oracle: the flow of the Gaussian from sigma 0.9 to 0.1, mean + std z at each."""
    z = torch.randn(4, 3, 2, 2, generator=generator).double()
    (start, end), errors = (mean + variance**0.5 * z for mean, variance in map(marginal, (0.9, 0.1))), {}
    for number in (20, 40):
        grid = torch.linspace(0.9, 0.1, number + 1)
        errors[number] = [float((solve(grid, start, order) - end).abs().max()) for order in (False, True)]
    ratios = [fine / coarse for fine, coarse in zip(errors[40], errors[20], strict=True)]
    assert ratios[0] == pytest.approx(0.5, abs=0.03)
    assert ratios[1] < 0.3
