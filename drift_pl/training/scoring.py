"""Scores and embeds an iteration's images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.types import PromptBatch, Scores, Trajectory
from drift_pl.scoring.protocol import Encoder, move
from drift_pl.scoring.rewards import WeightedReward, weighted_sum
from drift_pl.training.reward_calls import RewardCalls


@dataclass(frozen=True)
class GroupScoring:
    """Scores the groups of a rollout; rewards see the clean prompt, whatever an image was conditioned on.

    Attributes:
        rewards: the rewards, with weights.
        encoder: embeds images for shaping or for another method; None if nothing needs embeddings.
        decode: latents to images, for the embeddings of predicted clean images at intermediate steps.
        categories: (images [B, 3, H, W], prompts) -> how well each fits each of C categories, [B, C]; or None.
        groups_per_call, thread: how rewards are called, see `RewardCalls`.
    """

    rewards: Sequence[WeightedReward]
    encoder: Encoder | None
    decode: Callable[[Tensor], Tensor]
    categories: Callable[[Tensor, Sequence[str]], Tensor] | None = None
    groups_per_call: int = 0
    thread: bool = False

    def to(self, device: torch.device) -> None:
        """Moves the networks of rewards, encoder and categories."""
        for part in (*(reward.reward for reward in self.rewards), self.encoder, self.categories):
            move(part, device)

    def calls(self, batch: PromptBatch) -> RewardCalls:
        """The calls of the rewards for an iteration; they may begin while images are still being sampled."""
        return RewardCalls(self.rewards, batch.prompts, batch.group_size, self.groups_per_call, self.thread)

    def __call__(self, trajectory: Trajectory, batch: PromptBatch, calls: RewardCalls) -> Scores:
        """Scores of P groups, one for each prompt of the batch."""
        images_B3HW, shape = trajectory.images_B3HW, (len(batch.prompts), batch.group_size)
        by_reward = calls.scores(images_B3HW)
        reward_B = weighted_sum(self.rewards, by_reward)
        embedding = predicted = category = None
        if self.encoder is not None:
            embedding = self.encoder(images_B3HW).unflatten(0, shape)
            predicted = self._embed_predictions(self.encoder, trajectory, shape)
        if self.categories is not None:
            category = self.categories(images_B3HW, batch.repeated_prompts).to(images_B3HW.device).unflatten(0, shape)
        grouped = {name: score_B.view(shape) for name, score_B in by_reward.items()}
        return Scores(reward_B.view(shape), grouped, embedding, predicted, category)

    def _embed_predictions(self, encoder: Encoder, trajectory: Trajectory, shape: tuple[int, int]) -> Tensor | None:
        if trajectory.predicted_KBCHW is None:
            return None
        parts = [encoder(self.decode(latents_BCHW)) for latents_BCHW in trajectory.predicted_KBCHW]
        return torch.stack(parts).unflatten(1, shape)
