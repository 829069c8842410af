"""Several judges at once: their raw scores and the weighted sum."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.errors import UserError
from drift_pl.scoring.protocol import Reward


@dataclass(frozen=True)
class Judge:
    """A named reward with its weight in the sum."""

    name: str
    reward: Reward
    weight: float = 1.0

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        """Raw scores, float32 [B].

        Raises:
            UserError: the judge fails, or does not return one number per image.
        """
        try:
            score_B = self.reward(images_B3HW, prompts)
        except Exception as error:
            raise UserError(f"the judge {self.name!r} failed: {type(error).__name__}: {error}") from error
        if not isinstance(score_B, Tensor) or score_B.shape != (len(prompts),):
            shape = tuple(score_B.shape) if isinstance(score_B, Tensor) else type(score_B).__name__
            raise UserError(
                f"the judge {self.name!r} returned {shape}, not one number for each of {len(prompts)} images"
            )
        return score_B.float().to(images_B3HW.device)


def score_images(
    judges: Sequence[Judge], images_B3HW: Tensor, prompts: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all judges, float32 [B], and each judge's raw scores by name.

    An image that any judge answers with NaN or infinity has a NaN sum: it leaves its group.
    """
    by_judge = {judge.name: judge(images_B3HW, prompts) for judge in judges}
    total_B = torch.stack([judge.weight * by_judge[judge.name] for judge in judges]).sum(0)
    return torch.where(total_B.isfinite(), total_B, torch.nan), by_judge
