"""Scores and embeds an iteration's images."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drift_pl.core.processes import is_first_process
from drift_pl.core.types import PromptBatch, Scores, Trajectory
from drift_pl.scoring.calls import finite_images, known_rows, nan_images, refuse_nan_images, row_per_image
from drift_pl.scoring.protocol import Encoder, move
from drift_pl.scoring.rewards import WeightedReward, refuse_unscored, scored_counts, weighted_sum
from drift_pl.training.reward_calls import RewardCalls

ENCODER, CATEGORIES, MONITOR = "incentive.shaping.encoder", "incentive.args.categories", "evaluation.encoder"


@dataclass(frozen=True)
class GroupScoring:
    """Scores the groups of a rollout; rewards see the clean prompt, whatever an image was conditioned on.

    Attributes:
        rewards: the rewards, with weights.
        encoder: embeds images for shaping or for another method; None if nothing needs embeddings.
        decode: latents to images, for the embeddings of predicted clean images at intermediate steps.
        categories: (images [B, 3, H, W], prompts) -> how well each fits each of C categories, [B, C]; or None.
        monitor: embeds images for the diversity monitor; None if nobody monitors.
        groups_per_call, thread: how rewards are called, see `RewardCalls`.
    """

    rewards: Sequence[WeightedReward]
    encoder: Encoder | None
    decode: Callable[[Tensor], Tensor]
    categories: Callable[[Tensor, Sequence[str]], Tensor] | None = None
    monitor: Encoder | None = None
    groups_per_call: int = 0
    thread: bool = False
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    def to(self, device: torch.device) -> None:
        """Moves the networks of rewards, encoders and categories."""
        for part in (*(reward.reward for reward in self.rewards), self.encoder, self.categories, self.monitor):
            move(part, device)

    def calls(self, batch: PromptBatch) -> RewardCalls:
        """The calls of the rewards for an iteration; they may begin while images are still being sampled."""
        return RewardCalls(self.rewards, batch.prompts, batch.group_size, self.groups_per_call, self.thread)

    def __call__(self, trajectory: Trajectory, batch: PromptBatch, calls: RewardCalls) -> Scores:
        """Scores of P groups, one for each prompt of the batch.

        Raises:
            UserError: a reward, an encoder or the categories fail.
        """
        images_B3HW, shape = trajectory.images_B3HW, (len(batch.prompts), batch.group_size)
        by_reward, finite_B = calls.scores(images_B3HW), finite_images(images_B3HW)
        reward_B = weighted_sum(self.rewards, by_reward, finite_B)
        embedding = predicted = category = monitored = None
        if self.encoder is not None:
            embedding = self._embed(self.encoder, images_B3HW).unflatten(0, shape)
            predicted = self._embed_predictions(self.encoder, trajectory, shape)
        if self.categories is not None:
            category_BC = row_per_image(CATEGORIES, self.categories, images_B3HW, batch.repeated_prompts)
            category = category_BC.unflatten(0, shape)
        if self.monitor is not None:
            with torch.autocast(images_B3HW.device.type, enabled=False):  # in the precision of the images
                monitored = row_per_image(MONITOR, self.monitor, images_B3HW).unflatten(0, shape)
        grouped = {name: score_B.view(shape) for name, score_B in by_reward.items()}
        counts_N = scored_counts(self.rewards, by_reward, finite_B)
        return Scores(reward_B.view(shape), grouped, embedding, predicted, category, monitored, counts_N)

    def check(self, counts_N: Tensor) -> None:
        """Refuses and warns of what all processes together have lost, so that all of them end or go on.

        Args:
            counts_N: `Scores.counts_N`, summed over all processes.

        Raises:
            UserError: every image has NaN, or a reward with a weight scored none.
        """
        total, finite = (int(count) for count in counts_N[:2])
        refuse_nan_images(total - finite, total, "this iteration")
        refuse_unscored(self.rewards, counts_N)
        if finite < total and is_first_process():
            counted = "they are unscored (reward/unscored_fraction counts them)"
            self._warn_once("images", f"{nan_images(total - finite, total, 'this iteration')}; {counted}")

    def _embed_predictions(self, encoder: Encoder, trajectory: Trajectory, shape: tuple[int, int]) -> Tensor | None:
        if trajectory.predicted_KBCHW is None:
            return None
        parts = [self._embed(encoder, self.decode(latents_BCHW)) for latents_BCHW in trajectory.predicted_KBCHW]
        return torch.stack(parts).unflatten(1, shape)

    def _embed(self, encoder: Encoder, images_B3HW: Tensor) -> Tensor:
        """Embeddings [B, D]; rows of NaN have no bonus."""
        embedding_BD = row_per_image(ENCODER, encoder, images_B3HW)
        lost = int((finite_images(images_B3HW) & ~known_rows(embedding_BD)).sum())
        if lost:
            self._warn_once(
                "encoder",
                f"{ENCODER} returned NaN or infinity for {lost} of {len(images_B3HW)} images: they get neither a "
                "diversity bonus nor a penalty",
            )
        return embedding_BD

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(message, stacklevel=1)
