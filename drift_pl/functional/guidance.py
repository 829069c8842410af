"""Annealed importance guidance: mixes a fine-tuned model's predictions with its base model's while sampling.

AIG (arXiv 2409.06493): prediction = u^p tuned + (1 - u^p) base, with u the progress of denoising. The base model
determines the layout, which is decided first, with its own diversity; the tuned model determines the rest. Inference
only: sweeping the power p traces a reward-diversity front from one checkpoint. The same mixture holds for noise,
velocity and score predictions, which are affine functions of one another with the same coefficients for both models.
"""

from torch import Tensor


def aig_weight(progress: float, power: float) -> float:
    """Share u^p of the tuned model, in [0, 1].

    Args:
        progress: u in [0, 1], 0 at pure noise and 1 at the finished image: 1 - sigma in a rectified flow,
            and in a DDPM that of the flow with the same signal-to-noise ratio (`ddim.flow_time`).
        power: p >= 0. 0 is the tuned model throughout; with larger p it takes over later.

    Raises:
        ValueError: either is out of its range.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress={progress} is not in [0, 1]")
    if not power >= 0:
        raise ValueError(f"power={power} is negative")
    return float(progress**power)


def mix_predictions(base_BCHW: Tensor, tuned_BCHW: Tensor, weight: float) -> Tensor:
    """(1 - w) base + w tuned, [B, C, H, W]; w = 0 returns base and w = 1 tuned, exactly.

    Args:
        base_BCHW: prediction of the base model.
        tuned_BCHW: prediction of the tuned model for the same latents and condition, guidance already applied.
        weight: w in [0, 1].
    """
    if weight == 0:
        return base_BCHW
    if weight == 1:
        return tuned_BCHW
    return (1 - weight) * base_BCHW + weight * tuned_BCHW
