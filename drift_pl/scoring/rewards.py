"""Several rewards: raw scores and weighted sum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.scoring.protocol import GroupReward, Reward


@dataclass(frozen=True)
class WeightedReward:
    """A named reward with its weight in the sum; a `groupwise` reward is called with whole groups."""

    name: str
    reward: Reward | GroupReward
    weight: float = 1.0

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str], group_size: int | None = None) -> Tensor:
        """Raw scores, float32 [B].

        Args:
            prompts: B prompts, one per image.
            group_size: images per prompt, contiguous; required by groupwise rewards.

        Raises:
            UserError: the reward fails, does not return one number per image, or gets no whole groups.
        """
        shape: tuple[int, ...] = (len(prompts),)
        if getattr(self.reward, "groupwise", False):
            shape, prompts = self._groups(prompts, group_size)
        try:
            score = self.reward(images_B3HW if len(shape) == 1 else images_B3HW.unflatten(0, shape), prompts)
        except Exception as error:
            raise UserError(f"the reward {self.name!r} failed: {type(error).__name__}: {error}") from error
        if not isinstance(score, Tensor) or score.shape != shape:
            returned = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            expected = " x ".join(str(size) for size in shape)
            raise UserError(
                f"the reward {self.name!r} returned {returned}, not one number for each of {expected} images"
            )
        return score.flatten().float().to(images_B3HW.device)

    def _groups(self, prompts: Sequence[str], group_size: int | None) -> tuple[tuple[int, int], Sequence[str]]:
        """(P, G), and each group's prompt."""
        if group_size is None or len(prompts) % group_size:
            raise UserError(
                f"the reward {self.name!r} scores whole groups: {len(prompts)} images need a group_size that divides "
                f"them, not {group_size}"
            )
        return (len(prompts) // group_size, group_size), prompts[::group_size]


def score_images(
    judges: Sequence[WeightedReward],
    images_B3HW: Tensor,
    prompts: Sequence[str],
    group_size: int | None = None,
    allow_unscored: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all rewards, float32 [B], and each reward's raw scores by name.

    An image for which any reward is NaN or infinite has a NaN sum and is dropped from its group.

    Args:
        prompts: B prompts, one per image.
        group_size: images per prompt, contiguous; for groupwise rewards.
        allow_unscored: accept a reward that scores none of the images. Training must stop then, because it would learn
            nothing.

    Raises:
        UserError: a reward fails, does not return one number per image, gets no whole groups, or scores no image.
    """
    by_reward = call_rewards(judges, images_B3HW, prompts, group_size)
    return weighted_sum(judges, by_reward, allow_unscored), by_reward


def call_rewards(
    judges: Sequence[WeightedReward], images_B3HW: Tensor, prompts: Sequence[str], group_size: int | None = None
) -> dict[str, Tensor]:
    """Each reward's raw scores by name, float32 [B].

    Raises:
        UserError: a reward fails, does not return one number per image, or gets no whole groups.
    """
    return {judge.name: judge(images_B3HW, prompts, group_size) for judge in judges}


def weighted_sum(
    judges: Sequence[WeightedReward], by_reward: Mapping[str, Tensor], allow_unscored: bool = False
) -> Tensor:
    """The weighted sum of the rewards, float32 [B]; NaN where any of them is not finite.

    Raises:
        UserError: a reward scored none of the images, unless `allow_unscored`.
    """
    for name, score_B in by_reward.items():
        if not allow_unscored and not score_B.isfinite().any():
            raise UserError(
                f"the reward {name!r} scored none of {len(score_B)} images (NaN or infinity for all): fix the reward "
                "and resume with ckpt_path=RUN_FOLDER, from before this iteration"
            )
    total_B = torch.stack([judge.weight * by_reward[judge.name] for judge in judges]).sum(0)
    return torch.where(total_B.isfinite(), total_B, torch.nan)
