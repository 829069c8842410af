"""Group-relative advantages, centred on the kept images.

    A_i = (r_i - mean_K r) / max(std, eps)  +  b_i - mean_K b        for i in K,   A_i = 0 otherwise

K is the kept subset of a group, b the shaping bonus. Standard deviations are population ones (divisor n). Rewards that
differ by float32 rounding only count as equal: their part of the advantage is exactly 0, because an optimizer such as
Adam takes steps of the same length however small all advantages are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.functional.rounding import equal_up_to_rounding, rounding_spread


def masked_mean(values_PG: Tensor, mask_PG: Tensor) -> Tensor:
    """Mean over the masked entries of each group, [P, 1]; 0 for an empty group. Entries outside the mask may be NaN.

    Leading dimensions are allowed: values [K, P, G] give [K, P, 1].
    """
    total_P1 = torch.where(mask_PG, values_PG, 0).sum(-1, keepdim=True)
    return total_P1 / mask_PG.sum(-1, keepdim=True).clamp(min=1)


def masked_std(values_PG: Tensor, mask_PG: Tensor) -> Tensor:
    """Population standard deviation over the masked entries of each group, [P, 1]; 0 for an empty group."""
    deviation_PG = values_PG - masked_mean(values_PG, mask_PG)
    return masked_mean(deviation_PG.square(), mask_PG).sqrt()


def counted(kept_PG: Tensor) -> Tensor:
    """Kept images of groups that keep at least two, bool [P, G]: one image alone has no advantage over others."""
    return kept_PG & (kept_PG.sum(1, keepdim=True) >= 2)


def reward_moments(reward_PG: Tensor) -> Tensor:
    """Count, sum and sum of squares of the finite rewards, float64 [3]. Sum over processes for `global_std`."""
    finite = reward_PG[reward_PG.isfinite()].double()
    return torch.stack([torch.tensor(float(finite.numel())).double(), finite.sum().cpu(), finite.square().sum().cpu()])


def global_std(moments: Tensor) -> Tensor:
    """Standard deviation over all images of the batch, from `reward_moments` (flow_grpo's `global_std=True`)."""
    count, total, squares = moments.unbind()
    count = count.clamp(min=1)
    return (squares / count - (total / count).square()).clamp(min=0).sqrt().float()


def group_advantages(
    reward_PG: Tensor, kept_PG: Tensor, std: Tensor | float, std_floor: Tensor | float, bonus_PG: Tensor | None = None
) -> Tensor:
    """Advantages of the kept images; they sum to zero in every group, up to float32 rounding.

    Args:
        reward_PG: rewards; NaN only where not kept.
        kept_PG: bool, the subset K of each group. A group with fewer than two kept images gets zero advantage.
        std: divisor of the centred reward, broadcastable to [P, G] (1 for none, as in Dr. GRPO, arXiv 2503.20783).
        std_floor: eps, lower bound of the divisor, so that noise in nearly equal rewards is not amplified;
            broadcastable to [P, G].
        bonus_PG: shaping bonus in units of the advantage: [P, G], or [K, P, G] if it differs between steps (each step
            is then centred separately); or None. An image whose bonus is NaN has none, and does not count for the mean.

    Returns:
        float32 [P, G], or [K, P, G] if the bonus has that shape.
    """
    kept_PG = counted(kept_PG)
    divisor, floor = (
        torch.as_tensor(value, dtype=reward_PG.dtype, device=reward_PG.device) for value in (std, std_floor)
    )
    divisor = divisor.maximum(floor).clamp(min=torch.finfo(torch.float32).tiny)
    centred_PG = reward_PG - masked_mean(reward_PG, kept_PG)
    advantage_PG = torch.where(equal_up_to_rounding(reward_PG, kept_PG), 0, centred_PG / divisor)
    if bonus_PG is not None:
        has_bonus_PG = kept_PG & bonus_PG.isfinite()
        centred_PG = bonus_PG - masked_mean(bonus_PG, has_bonus_PG)
        advantage_PG = advantage_PG + torch.where(has_bonus_PG, centred_PG, 0)
    return torch.where(kept_PG, advantage_PG, 0)


@dataclass(frozen=True)
class AdvantageRule:
    """Scaling and clipping of advantages.

    Attributes:
        std: divisor of the centred reward. `group`: standard deviation of the full group (that of the kept subset would
            scale its rewards back up and undo the selection); `global`: of the batch; `kept`: of the kept subset;
            `none`: 1.
        clip: largest magnitude of an advantage.
    """

    std: str = "group"
    clip: float = 5.0

    def __call__(
        self, reward_PG: Tensor, kept_PG: Tensor, bonus_PG: Tensor | None, batch_std: Tensor, std_floor: Tensor | float
    ) -> Tensor:
        """Clipped advantages, float32 [P, G] or [K, P, G]; see `group_advantages`.

        Args:
            batch_std: standard deviation of all rewards of the iteration, over all processes; broadcastable to [P, G].
            std_floor: lower bound of the divisor, broadcastable to [P, G]; where the rounding of a group's rewards is
                more (`rounding_spread`, 1.9e-6 x max(1, largest |r|)), that is. Neither bounds the divisor 1 of `none`.
        """
        divisors = {
            "group": lambda: masked_std(reward_PG, reward_PG.isfinite()),
            "global": lambda: batch_std,
            "kept": lambda: masked_std(reward_PG, kept_PG),
            "none": lambda: torch.ones(()),
        }
        floor = (
            0.0
            if self.std == "none"
            else rounding_spread(reward_PG, kept_PG).maximum(
                torch.as_tensor(std_floor, dtype=reward_PG.dtype, device=reward_PG.device)
            )
        )
        advantage_PG = group_advantages(reward_PG, kept_PG, divisors[self.std](), floor, bonus_PG)
        return advantage_PG.clamp(-self.clip, self.clip)
