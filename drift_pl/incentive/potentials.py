"""Parts of a shaping potential: an image's diversity within its group, rescaling, and a gate on the reward.

Two groups of G = 8 show how the diversities differ: `two modes`, four duplicates at each of two opposite points,
and `ring`, eight points evenly spaced on a circle.

    potential   of image i                                       two modes   ring
    mean        1 - mean_{j != i} <e_i, e_j>                     1.143       1.143      G / (G - 1)
    nearest     min_{j != i} 1 - <e_i, e_j>                      0           0.293      1 - cos(2 pi / G)
    logdet      log det with i - log det without i, scaled       0           0.034      of 1 where all are orthogonal
    vendi       VS with i - VS without i                         0           0.020      VS: 1 against 2

The sum of a group's mean distances is (G^2 - |sum_i e_i|^2) / (G - 1): it is largest wherever the embeddings sum to
zero, and two opposite modes already do, so further modes gain nothing. `nearest` is zero if every image has a
duplicate. `logdet` and `vendi` count the directions that a group spans: two modes give at most two of G, and a further
copy adds almost nothing. (Directions are lines here: with a cosine kernel, e and -e count as the same image.)

Their units differ, and with them the meaning of a weight: `mean` and `nearest` are cosine distances in [0, 2], `logdet`
is in [0, 1], `vendi` counts effective images, at most 1, and is negative where the group is more even without the
image.

A leave-one-out gain g_i = F(all) - F(all but i) has an exact meaning for independent images with l_i = log p(x_i):
F(all but i) does not depend on x_i, so sum_i g_i grad l_i is an unbiased estimate of grad E[F]. F is the log
determinant (up to the scale), the Vendi score, and for G - 1 times `mean` the sum of all pairwise distances; `nearest`
is not such a gain.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from drift_pl.functional.advantage import masked_mean
from drift_pl.functional.diversity import distance_to_nearest, distance_to_others, logdet_gain, vendi_gain
from drift_pl.functional.rounding import equal_up_to_rounding

# Each maps embeddings [P, G, D] and valid images [P, G] to float32 [P, G], zero where undefined.
POTENTIALS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": distance_to_others,
    "nearest": distance_to_nearest,
    "logdet": logdet_gain,
    "vendi": vendi_gain,
}


def stretch(values_PG: Tensor, among_PG: Tensor, floor: float) -> Tensor:
    """clip((v - v_min) / max(v_max - v_min, floor), 0, 1), with v_min and v_max of the group's entries in `among_PG`.

    Args:
        values_PG: any finite numbers.
        among_PG: bool; the images that are rescaled. The others get 0.
        floor: > 0, in units of the values: the smallest range that is scaled to [0, 1].

    Returns:
        [P, G] in [0, 1].
    """
    lowest = torch.where(among_PG, values_PG, torch.inf).amin(1, keepdim=True)
    highest = torch.where(among_PG, values_PG, -torch.inf).amax(1, keepdim=True)
    scaled_PG = ((values_PG - lowest) / (highest - lowest).clamp(min=floor)).clamp(0, 1)
    return torch.where(among_PG, scaled_PG, 0)


def without_reward(centred_PG: Tensor, reward_PG: Tensor | None, among_PG: Tensor) -> Tensor:
    """What a diversity says beside the reward: b_i = c_i - (sum c q / sum q^2) q_i with q_i = r_i - mean r, among some.

    Images that score well tend to be alike, so a bonus for distance takes reward back. The residual does not: its sum
    and its product with the rewards are zero in every group. So advantages with it have the same component along the
    rewards as those without, where selection leaves none of these images out and no advantage is clipped.

    Args:
        centred_PG: c, whose mean among the images is zero.
        reward_PG: finite among them. Where they score alike up to rounding, c is left as it is.
        among_PG: bool; the others get 0.

    Raises:
        ValueError: `reward_PG` is None.
    """
    if reward_PG is None:
        raise ValueError("the residual of a regression on the rewards needs the rewards")
    above_PG = torch.where(among_PG, reward_PG - masked_mean(reward_PG, among_PG), 0).double()
    varied_P1 = ~equal_up_to_rounding(reward_PG, among_PG)
    square_P1 = torch.where(varied_P1, above_PG.square().sum(1, keepdim=True), 1)
    slope_P1 = torch.where(varied_P1, (centred_PG * above_PG).sum(1, keepdim=True) / square_P1, 0)
    return torch.where(among_PG, centred_PG - slope_P1 * above_PG, 0).to(centred_PG.dtype)


def reward_gate(reward_PG: Tensor, quantile: float) -> Tensor:
    """Images whose reward is at or above a quantile of their group's finite rewards, bool [P, G].

    The quantile is interpolated between two rewards, of which the upper one passes; 0.5 is the median. Rewards equal to
    the quantile pass, so in a group of equal rewards every finite one passes.

    Args:
        reward_PG: rewards; non-finite ones neither count nor pass.
        quantile: in [0, 1]; 0 lets every finite reward pass, 1 the best ones only.
    """
    finite_PG = reward_PG.isfinite()
    ascending_PG = torch.where(finite_PG, reward_PG, torch.inf).sort(1).values
    last_P1 = finite_PG.sum(1, keepdim=True) - 1
    # Rank of the lowest reward that passes. 0.28 x 25 is 7.000000000000001: rounding must not make that 8.
    first_P1 = (quantile * last_P1.double() - 1e-9).ceil().clamp(min=0).long()
    return finite_PG & (reward_PG >= ascending_PG.gather(1, first_P1))
