"""DDIM's step: against diffusers' DDIMScheduler, the DDPM's posterior and the closed form of a Gaussian."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from drift_pl.functional.ddim import (
    PREDICTIONS,
    ddim_clean,
    ddim_std,
    ddim_step,
    flow_time,
    predicted_noise,
)

DATA_MEAN, DATA_STD = 1.5, 0.5


def scheduler(prediction: str = "epsilon", **changes: object) -> DDIMScheduler:
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    settings |= {"clip_sample": False, "set_alpha_to_one": False, "prediction_type": prediction}
    return DDIMScheduler(**(settings | changes))


def levels(plain: DDIMScheduler, num_steps: int) -> tuple[list[int], Tensor]:
    """Timesteps, and noise levels of the states from the first to the last."""
    plain.set_timesteps(num_steps)
    alpha_bar = torch.cat([plain.alphas_cumprod[plain.timesteps], plain.final_alpha_cumprod[None]])
    return plain.timesteps.tolist(), (1 - alpha_bar.double()).sqrt()


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_step_is_the_schedulers(prediction: str, eta: float, generator: torch.Generator) -> None:
    """Oracle: DDIMScheduler.step with the same noise, at every step of a grid, the last included.

    It works in float32 throughout, its coefficients too: 1e-5. Its variance at the last timesteps is a difference of
    nearly equal numbers, and good to 1e-3 only. A random x_0 there stands for noise of size 30, whose coefficient is
    such a difference as well: 1e-4.

    Catches in functional/ddim.py: the two noise levels of the std swapped; the new noise not taken out of the predicted
    direction; v turned into noise with the wrong sign.
    """
    plain, tolerance = scheduler(prediction), 1e-4 if prediction == "sample" else 1e-5
    timesteps, sigmas = levels(plain, 10)
    for timestep, (sigma, sigma_next) in zip(timesteps, pairwise(sigmas), strict=True):
        x, output, noise = torch.randn(3, 2, 4, 3, 3, generator=generator)
        theirs = plain.step(output, timestep, x, eta=eta, variance_noise=noise)
        predicted = predicted_noise(output, x, sigma, prediction)
        mean, std = ddim_step(x, predicted, sigma, sigma_next, eta)
        assert mean.dtype == torch.float32
        torch.testing.assert_close(mean + std * noise, theirs.prev_sample, rtol=1e-5, atol=tolerance)
        clean = ddim_clean(x, predicted, sigma)
        torch.testing.assert_close(clean, theirs.pred_original_sample, rtol=1e-5, atol=tolerance)
        previous = timestep - 100
        variance = float(plain._get_variance(timestep, previous))
        assert float(std) == pytest.approx(eta * variance**0.5, rel=1e-3)
        assert (float(std) > 0) == (eta > 0)  # this scheduler does not end at alpha_bar = 1: noise up to the last step


def test_the_std_is_equation_16() -> None:
    """Oracle: the printed formula, in numpy."""
    _, sigmas = levels(scheduler(), 50)
    alpha_bar = 1 - sigmas.numpy() ** 2
    before, after = alpha_bar[:-1], alpha_bar[1:]
    expected = 0.7 * np.sqrt((1 - after) / (1 - before)) * np.sqrt(1 - before / after)
    ours = [float(ddim_std(sigma, sigma_next, 0.7)) for sigma, sigma_next in pairwise(sigmas)]
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_with_eta_one_a_step_is_the_ddpms_posterior(generator: torch.Generator) -> None:
    """Oracle: q(x' | x, x_0) by conditioning two Gaussians, where the noise is the one that made x from x_0."""
    sigma, sigma_next = torch.tensor([0.9, 0.6], dtype=torch.float64)
    x_0, noise = torch.randn(2, 1, 4, 3, 3, generator=generator, dtype=torch.float64)
    x = (1 - sigma**2).sqrt() * x_0 + sigma * noise
    decay = ((1 - sigma**2) / (1 - sigma_next**2)).sqrt()  # x = decay x' + (1 - decay^2)^(1/2) fresh noise
    precision = 1 / sigma_next**2 + decay**2 / (1 - decay**2)
    expected = ((1 - sigma_next**2).sqrt() * x_0 / sigma_next**2 + decay * x / (1 - decay**2)) / precision
    mean, std = ddim_step(x.float(), noise.float(), sigma, sigma_next, 1.0)
    torch.testing.assert_close(mean.double(), expected, rtol=0, atol=1e-6)  # float32 states of size 3
    assert float(std) == pytest.approx(float(precision) ** -0.5, rel=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_last_step_to_the_image_is_the_expected_image_without_noise(eta: float, generator: torch.Generator) -> None:
    """Such a step has no density and must not be trained."""
    x, noise = torch.randn(2, 1, 4, 3, 3, generator=generator)
    sigma, image = torch.tensor(0.04, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    mean, std = ddim_step(x, noise, sigma, image, eta)
    assert float(std) == 0
    torch.testing.assert_close(mean, ddim_clean(x, noise, sigma))
    stay, std = ddim_step(x, noise, sigma, sigma, eta)  # as schedulers without an offset end
    assert float(std) == 0
    torch.testing.assert_close(stay, x)


def gaussian_noise(x: Tensor, sigma: Tensor) -> Tensor:
    """E[noise | x] where x_0 is N(1.5, 0.5^2): what a perfect network would predict."""
    alpha = (1 - sigma**2).sqrt()
    return sigma * (x - alpha * DATA_MEAN) / (alpha**2 * DATA_STD**2 + sigma**2)


def moments(num_steps: int, eta: float) -> Tensor:
    """Mean and std of the sampled states over those of the closed form, float64 [T + 1, 2].

    x = alpha x_0 + sigma noise is Gaussian, with mean 1.5 alpha and variance 0.25 alpha^2 + sigma^2. The step is affine
    in x, so that mean and variance are carried from step to step without sampling.
    """
    _, sigmas = levels(scheduler(), num_steps)
    alphas = (1 - sigmas**2).sqrt()
    expected = torch.stack([alphas * DATA_MEAN, ((alphas * DATA_STD) ** 2 + sigmas**2).sqrt()], dim=1)
    mean, variance = float(expected[0, 0]), float(expected[0, 1]) ** 2
    rows = [torch.ones(2, dtype=torch.float64)]
    for number, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        points = torch.tensor([mean, mean + 1]).reshape(2, 1, 1, 1)
        out, std = ddim_step(points, gaussian_noise(points, sigma), sigma, sigma_next, eta)
        mean, variance = float(out[0]), float(out[1] - out[0]) ** 2 * variance + float(std) ** 2
        rows.append(torch.tensor([mean, variance**0.5], dtype=torch.float64) / expected[number + 1])
    return torch.stack(rows)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_marginals_are_the_closed_form_at_every_level(eta: float) -> None:
    """Up to the length of the steps: a third of the length leaves a third of the error, and 999 steps under 1 %."""
    coarse, fine = ((moments(num_steps, eta) - 1).abs().amax(0) for num_steps in (333, 999))
    assert (fine < 1e-2).all()
    assert (fine < 0.45 * coarse + 1e-4).all()  # float32 states: 1e-4 over a thousand steps


def test_a_flow_at_its_time_has_the_same_signal_to_noise() -> None:
    """Catches in functional/ddim.py: sigma taken for the like-noised flow's time."""
    for sigma in (0.05, 0.5, 0.9, 0.997):
        time = flow_time(sigma)
        assert (1 - time) / time == pytest.approx((1 - sigma**2) ** 0.5 / sigma)
    assert (flow_time(0.0), flow_time(1.0)) == (0.0, 1.0)


def test_an_unknown_prediction_is_refused() -> None:
    nothing = torch.zeros(1, 1, 1, 1)
    with pytest.raises(ValueError, match="'flow' is not one of epsilon"):
        predicted_noise(nothing, nothing, torch.tensor(0.5), "flow")
