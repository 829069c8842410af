"""Several rewards: raw scores and weighted sum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.text_length import expect_prompts
from drift_pl.scoring.calls import finite_images, numbers_per_image
from drift_pl.scoring.protocol import GroupReward, Reward


@dataclass(frozen=True)
class WeightedReward:
    """A named reward with its weight in the sum; a `groupwise` reward is called with whole groups.

    Attributes:
        left_out: prompts that name other rewards: this one does not score their images.
    """

    name: str
    reward: Reward | GroupReward
    weight: float = 1.0
    left_out: frozenset[str] = frozenset()

    def asked(self, prompts: Sequence[str]) -> list[bool]:
        """Whether it scores each of these prompts' images."""
        return [prompt not in self.left_out for prompt in prompts]

    def expect_prompts(self, prompts: Sequence[str]) -> None:
        """Tells the reward, if it listens, which of these it is going to read."""
        expect_prompts([self.reward], [prompt for prompt in prompts if prompt not in self.left_out])

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str], group_size: int | None = None) -> Tensor:
        """Raw scores, float32 [B]; NaN for images of prompts that name others, and for images with NaN.

        The reward is shown neither of them (see `calls`).

        Args:
            prompts: B prompts, one per image.
            group_size: images per prompt, contiguous; required by groupwise rewards.

        Raises:
            UserError: the reward fails, does not return one number per image, or gets no whole groups.
        """
        asked = self.asked(prompts)
        if all(asked):
            return self._score(images_B3HW, prompts, group_size)
        score_B = torch.full((len(prompts),), torch.nan, device=images_B3HW.device)
        rows = [row for row, counts in enumerate(asked) if counts]
        if rows:
            score_B[rows] = self._score(images_B3HW[rows], [prompts[row] for row in rows], group_size)
        return score_B

    def _score(self, images_B3HW: Tensor, prompts: Sequence[str], group_size: int | None) -> Tensor:
        finite_B = finite_images(images_B3HW)
        if getattr(self.reward, "groupwise", False):
            return self._score_groups(images_B3HW, prompts, group_size, finite_B)
        if finite_B.all():
            return self._ask(images_B3HW, prompts)
        score_B = torch.full((len(prompts),), torch.nan, device=images_B3HW.device)
        rows = finite_B.nonzero().flatten().tolist()
        if rows:
            score_B[rows] = self._ask(images_B3HW[rows], [prompts[row] for row in rows])
        return score_B

    def _score_groups(
        self, images_B3HW: Tensor, prompts: Sequence[str], group_size: int | None, finite_B: Tensor
    ) -> Tensor:
        """All groups in one call; or, if some images have NaN, each group's others, if there are two at least."""
        if group_size is None or len(prompts) % group_size:
            raise UserError(
                f"the reward {self.name!r} scores whole groups: {len(prompts)} images need a group_size that divides "
                f"them, not {group_size}"
            )
        if finite_B.all():
            return self._ask(images_B3HW.unflatten(0, (-1, group_size)), prompts[::group_size]).flatten()
        score_PG = torch.full((len(prompts) // group_size, group_size), torch.nan, device=images_B3HW.device)
        images_PG3HW = images_B3HW.unflatten(0, (-1, group_size))
        for group, finite_G in enumerate(finite_B.view(-1, group_size)):
            if finite_G.sum() >= 2:
                images_1N3HW = images_PG3HW[group, finite_G][None]
                score_PG[group, finite_G] = self._ask(images_1N3HW, prompts[group * group_size :][:1])[0]
        return score_PG.flatten()

    def _ask(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return numbers_per_image(f"the reward {self.name!r}", self.reward, images, [list(prompts)])


def tasks_of(rewards: Sequence[WeightedReward], prompts: Sequence[str]) -> tuple[tuple[bool, ...], ...]:
    """The sets of rewards by which prompts are scored, in order of appearance; empty if all are scored by all."""
    if not any(reward.left_out for reward in rewards):
        return ()
    return tuple(dict.fromkeys(zip(*(reward.asked(prompts) for reward in rewards), strict=True)))


def score_images(
    rewards: Sequence[WeightedReward], images_B3HW: Tensor, prompts: Sequence[str], group_size: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all rewards, float32 [B], and each reward's raw scores by name; see `weighted_sum`.

    Args:
        prompts: B prompts, one per image.
        group_size: images per prompt, contiguous; for groupwise rewards.

    Raises:
        UserError: a reward fails, does not return one number per image, or gets no whole groups.
    """
    by_reward = call_rewards(rewards, images_B3HW, prompts, group_size)
    return weighted_sum(rewards, by_reward, finite_images(images_B3HW), prompts), by_reward


def call_rewards(
    rewards: Sequence[WeightedReward], images_B3HW: Tensor, prompts: Sequence[str], group_size: int | None = None
) -> dict[str, Tensor]:
    """Each reward's raw scores by name, float32 [B].

    Raises:
        UserError: a reward fails, does not return one number per image, or gets no whole groups.
    """
    return {reward.name: reward(images_B3HW, prompts, group_size) for reward in rewards}


def weighted_sum(
    rewards: Sequence[WeightedReward], by_reward: Mapping[str, Tensor], finite_B: Tensor, prompts: Sequence[str]
) -> Tensor:
    """The weighted sum of the rewards that score each image, float32 [B]; NaN where one with a weight is not finite.

    A reward of weight 0 has no part in it, whatever it says of an image.

    Args:
        finite_B: bool, images without NaN; the others have no reward.
        prompts: B prompts, one per image.
    """
    nothing_B = torch.zeros(len(finite_B), device=finite_B.device)

    def term(reward: WeightedReward) -> Tensor:
        if not reward.weight:
            return nothing_B
        term_B = reward.weight * by_reward[reward.name]
        return torch.where(_asked(reward, prompts, finite_B), term_B, nothing_B) if reward.left_out else term_B

    total_B = torch.stack([term(reward) for reward in rewards]).sum(0)
    return torch.where(finite_B & total_B.isfinite(), total_B, torch.nan)


def _asked(reward: WeightedReward, prompts: Sequence[str], like_B: Tensor) -> Tensor:
    return torch.tensor(reward.asked(prompts), device=like_B.device)


def scored_counts(
    rewards: Sequence[WeightedReward], by_reward: Mapping[str, Tensor], finite_B: Tensor, prompts: Sequence[str]
) -> Tensor:
    """Numbers of images, of finite images, and for each reward of the finite images that it was asked for, and scored.

    To be summed over processes for `refuse_unscored`.

    Args:
        finite_B: bool, images without NaN.
        prompts: B prompts, one per image.

    Returns:
        float64 [2 + 2 R], on the CPU.
    """
    asked = [(finite_B & _asked(reward, prompts, finite_B)).sum() for reward in rewards]
    scored = [by_reward[reward.name].isfinite().sum() for reward in rewards]
    images = torch.tensor(len(finite_B), device=finite_B.device)
    return torch.stack([images, finite_B.sum(), *asked, *scored]).double().cpu()


def refuse_unscored(rewards: Sequence[WeightedReward], counts_N: Tensor) -> None:
    """Ends training if a reward that is trained on has scored none of the images it was asked for.

    Args:
        counts_N: of all processes together, see `scored_counts`.

    Raises:
        UserError: a reward with a weight scored no image: nothing can be learnt then.
    """
    asked_R, scored_R = counts_N[2:].tensor_split(2)
    for reward, asked, scored in zip(rewards, asked_R.tolist(), scored_R.tolist(), strict=True):
        if reward.weight and asked and not scored:
            raise UserError(
                f"the reward {reward.name!r} scored none of {asked:.0f} images (NaN or infinity for all): fix the "
                "reward and resume with ckpt_path=RUN_FOLDER, from before this iteration"
            )
