"""The clipped surrogate and the divergence from the reference, per image; the caller weighs, sums and normalises."""

import torch
from torch import Tensor


def clipped_surrogate(
    log_prob_B: Tensor, old_log_prob_B: Tensor, advantage_B: Tensor, clip_range: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """PPO's clipped objective as a loss (arXiv 1707.06347, eq. 7): max(-A r, -A clip(r, 1 - c, 1 + c)).

    Args:
        log_prob_B: log-density of the transitions under the current policy, mean over latent elements.
        old_log_prob_B: the same under the policy that sampled them; no gradient.
        advantage_B: advantage of each image.
        clip_range: c > 0; see `gaussian_log_prob` for what it means per latent size.

    Returns:
        The loss [B], and without gradient, each [B]: `ratio_deviation` |r - 1|, `clipped_high` and `clipped_low`
        (1 where the clip stops the gradient because r rose above or fell below its range) and `approx_kl`, the
        non-negative estimator (r - 1) - log r of KL(old || new) per latent element (Schulman's k3).
    """
    log_ratio_B = log_prob_B - old_log_prob_B
    ratio_B = log_ratio_B.exp()
    clipped_B = ratio_B.clamp(1 - clip_range, 1 + clip_range)
    loss_B = torch.maximum(-advantage_B * ratio_B, -advantage_B * clipped_B)
    with torch.no_grad():
        health = {
            "ratio_deviation": (ratio_B - 1).abs(),
            "clipped_high": ((ratio_B > 1 + clip_range) & (advantage_B > 0)).float(),
            "clipped_low": ((ratio_B < 1 - clip_range) & (advantage_B < 0)).float(),
            "approx_kl": (ratio_B - 1) - log_ratio_B,
        }
    return loss_B, health


def gaussian_kl(mean_BCHW: Tensor, reference_mean_BCHW: Tensor, std: Tensor) -> Tensor:
    """KL divergence between two Gaussian steps of equal std, mean over latent elements: |m - m_ref|^2 / (2 std^2).

    Multiply by the step length sigma - sigma_next for the form that flow_grpo's code uses (its denominator lacks
    the step length), so that published weights keep their meaning.

    Returns:
        float32 [B], differentiable in `mean_BCHW`.
    """
    return ((mean_BCHW - reference_mean_BCHW).square() / (2 * std.square())).flatten(1).mean(1)
