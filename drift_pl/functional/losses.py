"""Clipped surrogate and KL to the reference, per image; the caller weights, sums and normalizes them."""

import torch
from torch import Tensor


def clipped_surrogate(log_ratio_B: Tensor, advantage_B: Tensor, clip_range: float) -> tuple[Tensor, dict[str, Tensor]]:
    """PPO's clipped objective as a loss (arXiv 1707.06347, eq. 7): max(-A r, -A clip(r, 1 - c, 1 + c)).

    Args:
        log_ratio_B: log r of each image: the plain log p - log p_old, or `normalised_log_ratio`. Densities are means
            over latent elements, see `gaussian_log_prob`.
        advantage_B: advantage of each image.
        clip_range: c > 0, in units of the ratio: values do not carry over between the two kinds of ratio.

    Returns:
        The loss [B], and without gradient, each [B]: `ratio_deviation` |r - 1|, `clipped_high` and `clipped_low`
        (1 where the clip stops the gradient because r rose above or fell below its range) and `approx_kl`, the
        non-negative (r - 1) - log r. For the plain ratio of a single latent element it estimates KL(old || new)
        (Schulman's k3). For the mean over n elements r is an n-th root; where the means of two Gaussian steps differ
        by k = KL(old || new) / n, it estimates exp(k / n - k) - 1 + k: about k / n while k is far below 1 / n.
    """
    ratio_B = log_ratio_B.exp()
    clipped_B = ratio_B.clamp(1 - clip_range, 1 + clip_range)
    loss_B = torch.maximum(-advantage_B * ratio_B, -advantage_B * clipped_B)
    with torch.no_grad():
        high_B, low_B = (ratio_B > 1 + clip_range) & (advantage_B > 0), (ratio_B < 1 - clip_range) & (advantage_B < 0)
        health = _health(ratio_B, log_ratio_B, high_B, low_B)
    return loss_B, health


def divergence_masked_surrogate(
    log_ratio_B: Tensor, advantage_B: Tensor, kl_B: Tensor, kl_limit: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Flow-DPPO's objective as a loss (arXiv 2606.11025, eq. 17 and 18): -A r, without gradient where it leads away.

    The trust region is the exact divergence of the two Gaussian steps, not the ratio, which is a noisy sample of it.
    An image has no gradient where the divergence is above its limit and the step would add to it: A > 0 and r > 1, or
    A < 0 and r < 1.

    Args:
        log_ratio_B: log r of each image, as for `clipped_surrogate`.
        kl_B: KL(old || new), mean over latent elements (`gaussian_kl`).
        kl_limit: delta > 0, in the same units: it belongs to a sampler and to a number of steps, not to a latent size.

    Returns:
        The loss [B], and the same health as `clipped_surrogate`, with what the mask stops as clipped, and `kl_old`.
    """
    ratio_B, away_B = log_ratio_B.exp(), kl_B.detach() > kl_limit
    high_B, low_B = away_B & (advantage_B > 0) & (ratio_B > 1), away_B & (advantage_B < 0) & (ratio_B < 1)
    loss_B = torch.where(high_B | low_B, 0.0, -advantage_B * ratio_B)
    with torch.no_grad():
        health = _health(ratio_B, log_ratio_B, high_B, low_B) | {"kl_old": kl_B.detach()}
    return loss_B, health


def _health(ratio_B: Tensor, log_ratio_B: Tensor, high_B: Tensor, low_B: Tensor) -> dict[str, Tensor]:
    return {
        "ratio_deviation": (ratio_B - 1).abs(),
        "clipped_high": high_B.float(),
        "clipped_low": low_B.float(),
        "approx_kl": (ratio_B - 1) - log_ratio_B,
    }


def normalised_log_ratio(
    log_prob_B: Tensor, old_log_prob_B: Tensor, mean_BCHW: Tensor, old_mean_BCHW: Tensor, std: Tensor
) -> Tensor:
    """GRPO-Guard's log-ratio, with zero mean and without 1 / std (arXiv 2510.22319, ratio normalization).

    With x = m_old + std e, the plain log-ratio is mean(e (m - m_old)) / std - mean((m - m_old)^2) / (2 std^2), means
    over latent elements: on samples of the old policy it is negative on average, more so for smaller std, and the upper
    clip rarely takes effect. Here

        log r = std (log p - log p_old + mean((m - m_old)^2) / (2 std^2)) = mean(e (m - m_old)),

    whose mean is zero and whose standard deviation is that of the mean's move, about proportional to the step's length,
    and no longer to 1 / std. The correction is per image: averaged over
    the batch, one image that moved far would shift all other ratios.

    Args:
        log_prob_B, old_log_prob_B: log-densities of the transitions, mean over latent elements.
        mean_BCHW, old_mean_BCHW: means of the step under the current and under the sampling policy.
        std: standard deviation of the step, > 0, 0-dimensional.

    Returns:
        float32 [B], differentiable in the current policy's arguments. For n latent elements its standard deviation is
        the root-mean-square shift of the mean over sqrt(n), so a clip range depends on the latent size and scale.
    """
    return std * (log_prob_B - old_log_prob_B + gaussian_kl(mean_BCHW, old_mean_BCHW, std))


def step_weight(form: str, std: Tensor, length: Tensor | float) -> Tensor:
    """Weight of a sampling step in the loss, 0-dimensional; see `normalised_step_weights`.

    Args:
        form: `none`: 1. `inverse_length`: 1 / length (GRPO-Guard, arXiv 2510.22319, gradient reweighting): a step's
            mean moves with the predicted velocity in proportion to the step's length, and so does the gradient of a
            normalised ratio. `std`: std, as in GARDO's code (arXiv 2512.24138): the gradient of a plain ratio grows
            as 1 / std.
        std: standard deviation of the step, 0-dimensional.
        length: sigma - sigma_next > 0.

    Raises:
        ValueError: unknown form.
    """
    if form == "none":
        return torch.ones_like(std)
    if form == "inverse_length":
        return torch.ones_like(std) / length
    if form == "std":
        return std
    raise ValueError(f"unknown step weight {form!r}: use none, inverse_length or std")


def normalised_step_weights(weights_K: Tensor) -> Tensor:
    """Step weights divided by their mean, [K], so that the learning rate keeps its meaning.

    Pass the weights of all trainable steps, not of one iteration's window: in a window of one step the weight would
    always be 1.
    """
    return weights_K / weights_K.mean()


def gaussian_kl(mean_BCHW: Tensor, reference_mean_BCHW: Tensor, std: Tensor) -> Tensor:
    """KL divergence between two Gaussian steps of equal std, mean over latent elements: |m - m_ref|^2 / (2 std^2).

    For an SDE's step, whose std is s sqrt(sigma - sigma_next), multiply by the step length sigma - sigma_next for the
    form that flow_grpo's code uses (its denominator has s alone), so that published weights keep their meaning. Under
    Flow-CPS that code divides by the whole std, as here.

    Returns:
        float32 [B], differentiable in `mean_BCHW`.
    """
    return ((mean_BCHW - reference_mean_BCHW).square() / (2 * std.square())).flatten(1).mean(1)
