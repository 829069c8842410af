"""Scores and embeds an iteration's images."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drift_pl.core.types import Scores, Trajectory
from drift_pl.scoring.calls import finite_images, known_rows, nan_images, refuse_nan_images, row_per_image
from drift_pl.scoring.protocol import Encoder, move
from drift_pl.scoring.rewards import WeightedReward, refuse_unscored, scored_counts, weighted_sum
from drift_pl.training.parallel import gather_vectors, is_first_process
from drift_pl.training.reward_calls import RewardCallPlan, RewardCalls

ENCODER, CATEGORIES = "incentive.shaping.encoder", "incentive.args.categories"


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
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

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

        Raises:
            UserError: a reward, the encoder or the categories fail; or, over all processes, every image has NaN, or a
                reward scored none.
        """
        images_B3HW = trajectory.images_B3HW
        repeated = [prompt for prompt in prompts for _ in range(self.group_size)]
        shape, finite_B = (len(prompts), self.group_size), finite_images(images_B3HW)
        by_reward = (judging or self.calls(prompts)).scores(images_B3HW)
        self._check(scored_counts(self.judges, by_reward, finite_B), images_B3HW.device)
        reward_B = weighted_sum(self.judges, by_reward, finite_B)
        embedding = predicted = category = None
        if self.encoder is not None:
            embedding = self._embed(images_B3HW).unflatten(0, shape)
            predicted = self._embed_predictions(trajectory, shape)
        if self.categories is not None:
            category = row_per_image(CATEGORIES, self.categories, images_B3HW, repeated).unflatten(0, shape)
        grouped = {name: score_B.view(shape) for name, score_B in by_reward.items()}
        return Scores(reward_B.view(shape), grouped, embedding, predicted, category)

    def _embed_predictions(self, trajectory: Trajectory, shape: tuple[int, int]) -> Tensor | None:
        if trajectory.predicted_KBCHW is None or self.encoder is None:
            return None
        parts = [self._embed(self.decode(latents_BCHW)) for latents_BCHW in trajectory.predicted_KBCHW]
        return torch.stack(parts).unflatten(1, shape)

    def _embed(self, images_B3HW: Tensor) -> Tensor:
        """Embeddings [B, D] by the shaping encoder; rows of NaN have no bonus."""
        assert self.encoder is not None
        embedding_BD = row_per_image(ENCODER, self.encoder, images_B3HW)
        lost = int((finite_images(images_B3HW) & ~known_rows(embedding_BD)).sum())
        if lost:
            self._warn_once(
                "encoder",
                f"{ENCODER} returned NaN or infinity for {lost} of {len(images_B3HW)} images: they get neither a "
                "diversity bonus nor a penalty",
            )
        return embedding_BD

    def _check(self, counts_N: Tensor, device: torch.device) -> None:
        """Refuses and warns of what all processes together have lost, so that all of them end or go on.

        Args:
            counts_N: of this process, see `scored_counts`.
        """
        counts_N = gather_vectors(counts_N, device).sum(0)
        total, finite = (int(count) for count in counts_N[:2])
        refuse_nan_images(total - finite, total, "this iteration")
        refuse_unscored(self.judges, counts_N)
        if finite < total and is_first_process():
            counted = "they are unscored (reward/unscored_fraction counts them)"
            self._warn_once("images", f"{nan_images(total - finite, total, 'this iteration')}; {counted}")

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(message, stacklevel=1)
