"""Scores and embeds an iteration's images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.types import Scores, Trajectory
from drift_pl.scoring.protocol import Encoder, move
from drift_pl.scoring.rewards import WeightedReward, weighted_sum
from drift_pl.training.reward_calls import RewardCallPlan, RewardCalls


@dataclass(frozen=True)
class GroupScoring:
    """Scores the groups of a rollout; judges see the clean prompt, whatever an image was conditioned on.

    Attributes:
        judges: the rewards, with weights.
        group_size: images per prompt.
        encoder: embeds images for shaping or for another method; None if nothing needs embeddings.
        decode: latents to images, for the embeddings of predicted clean images at intermediate steps.
        categories: (images [B, 3, H, W], prompts) -> how well each fits each of C categories, [B, C]; or None.
        plan: how judges are called.
    """

    judges: Sequence[WeightedReward]
    group_size: int
    encoder: Encoder | None
    decode: Callable[[Tensor], Tensor]
    categories: Callable[[Tensor, Sequence[str]], Tensor] | None = None
    plan: RewardCallPlan = RewardCallPlan()

    def to(self, device: torch.device) -> None:
        """Moves the networks of judges, encoder and categories."""
        for part in (*(judge.reward for judge in self.judges), self.encoder, self.categories):
            move(part, device)

    def calls(self, prompts: Sequence[str]) -> RewardCalls:
        """What judges the images of an iteration's groups, one for each of `prompts`."""
        return RewardCalls(self.judges, prompts, self.group_size, self.plan)

    def __call__(self, trajectory: Trajectory, prompts: Sequence[str], judging: RewardCalls | None = None) -> Scores:
        """Scores of P groups, one for each of `prompts`.

        Args:
            judging: that may have begun while the images were sampled; None: none has.
        """
        images_B3HW = trajectory.images_B3HW
        repeated = [prompt for prompt in prompts for _ in range(self.group_size)]
        shape = (len(prompts), self.group_size)
        by_reward = (judging or self.calls(prompts)).scores(images_B3HW)
        reward_B = weighted_sum(self.judges, by_reward)
        embedding = predicted = category = None
        if self.encoder is not None:
            embedding = self.encoder(images_B3HW).unflatten(0, shape)
            predicted = self._embed_predictions(trajectory, shape)
        if self.categories is not None:
            category = self.categories(images_B3HW, repeated).to(images_B3HW.device).unflatten(0, shape)
        grouped = {name: score_B.view(shape) for name, score_B in by_reward.items()}
        return Scores(reward_B.view(shape), grouped, embedding, predicted, category)

    def _embed_predictions(self, trajectory: Trajectory, shape: tuple[int, int]) -> Tensor | None:
        if trajectory.predicted_KBCHW is None or self.encoder is None:
            return None
        parts = [self.encoder(self.decode(latents_BCHW)) for latents_BCHW in trajectory.predicted_KBCHW]
        return torch.stack(parts).unflatten(1, shape)
