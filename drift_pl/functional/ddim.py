"""DDIM steps for models trained as DDPMs: mean, standard deviation and predicted clean image.

States are x = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise, and the model predicts the noise. The noise level here
is sigma = sqrt(1 - alpha_bar), so the coefficient of the image is alpha = sqrt(1 - sigma^2). Near sigma = 1 this
difference loses precision: keep noise levels in float64. Steps are computed in float32.

DDIM: arXiv 2010.02502. Steps with eta > 0 as a policy with log-probabilities: DDPO, arXiv 2305.13301.
"""

from torch import Tensor

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""What a network predicts, named as in diffusers: the noise, v = alpha noise - sigma x_0, or x_0."""


def ddim_std(sigma: Tensor, sigma_next: Tensor, eta: float) -> Tensor:
    """Standard deviation of a step (arXiv 2010.02502, eq. 16), with a' = alpha_bar of the next level:

        std = eta sqrt((1 - a') / (1 - alpha_bar)) sqrt(1 - alpha_bar / a').

    Args:
        sigma, sigma_next: noise levels, 0-dimensional, 0 <= sigma_next <= sigma <= 1, sigma > 0.
        eta: 0 for the deterministic step, up to 1 for the posterior of the DDPM.

    Returns:
        0-dimensional; 0 if sigma_next is 0 or equals sigma.
    """
    # 1 - alpha_bar / a', factored to avoid cancellation between close noise levels
    shrinkage = (sigma - sigma_next) * (sigma + sigma_next) / (1 - sigma_next.square())
    return eta * sigma_next / sigma * shrinkage.sqrt()


def ddim_clean(x_BCHW: Tensor, noise_BCHW: Tensor, sigma: Tensor) -> Tensor:
    """Clean latents x_0 = (x - sigma noise) / alpha implied by a noise prediction (arXiv 2010.02502, eq. 9)."""
    return (x_BCHW.float() - sigma * noise_BCHW.float()) / (1 - sigma.square()).sqrt()


def ddim_step(
    x_BCHW: Tensor, noise_BCHW: Tensor, sigma: Tensor, sigma_next: Tensor, eta: float
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a step (arXiv 2010.02502, eq. 12):

        mean = sqrt(1 - sigma_next^2) x_0 + sqrt(sigma_next^2 - std^2) noise.

    Args:
        noise_BCHW: predicted noise, guidance applied.
        eta: in [0, 1]; 0 gives the deterministic step, whose std is 0.

    The step is exact only in the limit of short steps: for a Gaussian of standard deviation 0.5, in Stable Diffusion's
    schedule, 50 steps reproduce 0.95 of it with eta 0 and 0.91 with eta 1, and 10 steps 0.81 and 0.72. Compare
    diversity only between samples with the same number of steps and the same eta.

    Returns:
        mean, float32 [B, C, H, W], and std, 0-dimensional.
    """
    std = ddim_std(sigma, sigma_next, eta)
    direction = (sigma_next.square() - std.square()).clamp(min=0).sqrt()
    clean_BCHW = ddim_clean(x_BCHW, noise_BCHW, sigma)
    return (1 - sigma_next.square()).sqrt() * clean_BCHW + direction * noise_BCHW.float(), std


def predicted_noise(output_BCHW: Tensor, x_BCHW: Tensor, sigma: Tensor, prediction: str) -> Tensor:
    """Converts a network's output to a noise prediction; `epsilon` is returned unchanged, in its dtype.

    Args:
        prediction: one of `PREDICTIONS`. v = alpha noise - sigma x_0 (arXiv 2202.00512, appendix D).

    Raises:
        ValueError: unknown prediction type.
    """
    if prediction == "epsilon":
        return output_BCHW
    alpha = (1 - sigma.square()).sqrt()
    if prediction == "v_prediction":
        return alpha * output_BCHW.float() + sigma * x_BCHW.float()
    if prediction == "sample":
        return (x_BCHW.float() - alpha * output_BCHW.float()) / sigma
    raise ValueError(f"prediction={prediction!r} is not one of {', '.join(PREDICTIONS)}")


def flow_time(sigma: float) -> float:
    """Noise level in [0, 1] at which a rectified flow has the same signal-to-noise ratio.

    x / (alpha + sigma) = (1 - s) x_0 + s noise with s = sigma / (alpha + sigma). Settings given as a
    flow's noise level (`incentive.prompting.low`, annealed guidance) thus mean the same for both kinds of model. In
    Stable Diffusion's schedule it falls from 0.94 at the first timestep to 0.62 halfway and 0.03 at the last.
    """
    return float(sigma / ((1 - sigma**2) ** 0.5 + sigma))
