"""Sampling steps of a rectified flow: mean, standard deviation and log-density.

Rectified flow: x_sigma = (1 - sigma) x_0 + sigma * noise, and the model predicts v = noise - x_0. A step goes from
sigma to sigma_next < sigma. Everything is computed in float32 (Flow-GRPO, arXiv 2505.05470: bfloat16 overflows).
"""

import math

import torch
from torch import Tensor


def flow_ode_step(x_BCHW: Tensor, v_BCHW: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """Euler step of the probability-flow ODE: x + (sigma_next - sigma) v."""
    return x_BCHW.float() + (sigma_next - sigma) * v_BCHW.float()


def flow_dpm2_step(
    x_BCHW: Tensor,
    clean_BCHW: Tensor,
    sigma: Tensor,
    sigma_next: Tensor,
    before: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Step of the second-order multistep DPM-Solver++ (arXiv 2211.01095, algorithm 2) of the flow's ODE.

    With lambda = log((1 - sigma) / sigma), h the step in lambda and r h the one before it,

        x_next = (sigma_next / sigma) x + (1 - sigma_next / sigma) D,      D = m + (m - m_before) / (2 r),

    for predicted clean latents m. With D = m it is Euler's step.

    Args:
        clean_BCHW: m.
        before: noise level and predicted clean latents of the step before; None takes Euler's step, as the last step
            of a rollout must, where h is infinite.

    Returns:
        float32 [B, C, H, W].
    """
    mixed_BCHW = clean_BCHW
    if before is not None:
        sigma_before, clean_before_BCHW = before
        log_ratio, log_before, log_next = (
            torch.log((1 - level.double()) / level.double()) for level in (sigma, sigma_before, sigma_next)
        )
        inverse_r = ((log_next - log_ratio) / (log_ratio - log_before)).float()  # 0 after pure noise
        mixed_BCHW = clean_BCHW + 0.5 * inverse_r * (clean_BCHW - clean_before_BCHW)
    share = sigma_next / sigma
    return share * x_BCHW.float() + (1 - share) * mixed_BCHW


def flow_sde_diffusion(sigma: Tensor, sigma_second: Tensor, noise_level: float) -> Tensor:
    """Diffusion coefficient of Flow-GRPO's SDE: s(sigma) = a sqrt(sigma / (1 - sigma)) (arXiv 2505.05470, eq. 9).

    Args:
        sigma: noise level of the step, in (0, 1]; 0-dimensional.
        sigma_second: noise level of the rollout's second step. It replaces sigma in the denominator at sigma = 1, where
            the formula has a pole.
        noise_level: a > 0.
    """
    denominator_sigma = torch.where(sigma >= 1, sigma_second, sigma)
    return noise_level * (sigma / (1 - denominator_sigma)).sqrt()


def flow_sde_step(
    x_BCHW: Tensor, v_BCHW: Tensor, sigma: Tensor, sigma_next: Tensor, diffusion: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a step of the SDE that has the flow's marginals.

    With the score of the rectified flow, -(x + (1 - sigma) v) / sigma, the reverse SDE's Euler-Maruyama step is

        mean = x (1 - s^2 D / (2 sigma)) - v (1 + s^2 (1 - sigma) / (2 sigma)) D,    std = s sqrt(D),

    with D = sigma - sigma_next > 0 and s the diffusion coefficient (arXiv 2505.05470, eq. 12).

    Returns:
        mean, float32 [B, C, H, W], and std, 0-dimensional.
    """
    length = sigma - sigma_next
    drift = diffusion.square() / (2 * sigma)
    mean_BCHW = x_BCHW.float() * (1 - drift * length) - v_BCHW.float() * ((1 + drift * (1 - sigma)) * length)
    return mean_BCHW, diffusion * length.sqrt()


def flow_cps_step(
    x_BCHW: Tensor, v_BCHW: Tensor, sigma: Tensor, sigma_next: Tensor, noise_level: float
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a step of coefficients-preserving sampling (Flow-CPS, arXiv 2509.05952).

    The predicted image x - sigma v and the predicted noise x + (1 - sigma) v keep the coefficients of the flow, and
    part of the noise is redrawn:

        mean = (1 - sigma_next) (x - sigma v) + sigma_next cos(a pi / 2) (x + (1 - sigma) v),
        std = sigma_next sin(a pi / 2).

    At the first step, where the predicted noise is x itself, the variance is preserved for any step length, unlike in
    the SDE's Euler step. Later steps rebuild states from posterior means: samples are less spread out than the flow's
    for any number of steps, so measure diversity on deterministic samples.

    Args:
        noise_level: a in (0, 1]: share of the noise that is redrawn, as an angle.

    Returns:
        mean, float32 [B, C, H, W], and std, 0-dimensional; 0 for a last step that ends at sigma_next = 0.
    """
    x_BCHW, v_BCHW, angle = x_BCHW.float(), v_BCHW.float(), noise_level * math.pi / 2
    image_BCHW, noise_BCHW = x_BCHW - sigma * v_BCHW, x_BCHW + (1 - sigma) * v_BCHW
    mean_BCHW = (1 - sigma_next) * image_BCHW + sigma_next * math.cos(angle) * noise_BCHW
    return mean_BCHW, sigma_next * math.sin(angle)


def gaussian_log_prob(x_BCHW: Tensor, mean_BCHW: Tensor, std: Tensor) -> Tensor:
    """Log-density of x under N(mean, std^2), averaged (not summed) over the C * H * W latent elements.

    The convention since DDPO: with n latent elements, exp(difference) is the n-th root of the importance ratio. A clip
    range therefore depends on the latent size: 1e-4 at 16 x 64 x 64 = 65,536 elements lets the joint log-ratio move by
    6.6; at 512 elements the same freedom is a clip range of 1.3e-2.

    Returns:
        float32 [B]. The sum over elements is this times the number of elements.
    """
    squared = (x_BCHW.float() - mean_BCHW).square() / (2 * std.square())
    log_density = -squared - std.log() - 0.5 * math.log(2 * math.pi)
    return log_density.flatten(1).mean(1)
