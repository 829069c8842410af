"""Scores and embeds an iteration's images."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from drift_pl.core.processes import is_first_process
from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Scores, Tasks, Trajectory
from drift_pl.scoring.calls import finite_images, known_rows, nan_images, refuse_nan_images, row_per_image
from drift_pl.scoring.frames import random_frames
from drift_pl.scoring.protocol import Encoder, move
from drift_pl.scoring.residence import PARKED, resident
from drift_pl.scoring.rewards import WeightedReward, refuse_unscored, scored_counts, tasks_of, weighted_sum
from drift_pl.training.reward_calls import RewardCalls
from drift_pl.training.whole_groups import rows_of_groups

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
        offload: networks are in main memory but for the time in which they score.
        random_frames: frames of a video, of which rewards see a random one; 0: they see what is sampled.
        tasks: the sets of rewards by which the run's prompts are scored, see `tasks_of`; empty: by all.
    """

    rewards: Sequence[WeightedReward]
    encoder: Encoder | None
    decode: Callable[[Tensor], Tensor]
    categories: Callable[[Tensor, Sequence[str]], Tensor] | None = None
    monitor: Encoder | None = None
    groups_per_call: int = 0
    thread: bool = False
    offload: bool = False
    random_frames: int = 0
    tasks: tuple[tuple[bool, ...], ...] = ()
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def per_task(self) -> tuple[int, ...]:
        """The shape of a number for each task: none where there is one."""
        return (len(self.tasks),) if len(self.tasks) > 1 else ()

    def to(self, device: torch.device) -> None:
        """Moves the networks of rewards, encoders and categories."""
        for part in self._networks():
            move(part, PARKED if self.offload else device)

    def _networks(self) -> tuple[object, ...]:
        return (*(reward.reward for reward in self.rewards), self.encoder, self.categories, self.monitor)

    def calls(self, batch: PromptBatch) -> RewardCalls:
        """The calls of the rewards for an iteration; they may begin while images are still being sampled."""
        seen = partial(self._random_frames, batch) if self.random_frames else None
        prompts, how = batch.repeated_prompts, (self.groups_per_call, self.thread, seen)
        return RewardCalls(self.rewards, prompts, batch.group_size, *how)

    def _random_frames(self, batch: PromptBatch, images_B3HW: Tensor, rows: slice) -> Tensor:
        return random_frames(images_B3HW, self.random_frames, batch.key, batch.samples[rows])

    def __call__(self, trajectory: Trajectory, batch: PromptBatch, calls: RewardCalls) -> Scores:
        """Scores of P groups, one for each prompt of the batch, wherever their images are.

        Raises:
            UserError: a reward, an encoder or the categories fail.
        """
        shape = (len(batch.prompts), batch.group_size)
        with resident(self._networks(), trajectory.images_B3HW.device, self.offload):
            said = self._look(trajectory, batch, calls)
        known = rows_of_groups(said, batch)
        by_reward = {reward.name: known[f"reward/{reward.name}"] for reward in self.rewards}
        prompts = [prompt for prompt in batch.prompts for _ in range(batch.group_size)]
        reward_B = weighted_sum(self.rewards, by_reward, known["finite"], prompts)
        known = {name: rows.unflatten(0, shape) for name, rows in known.items()}
        predicted_PGKD = known.get("predicted")
        return Scores(
            reward_PG=reward_B.view(shape),
            by_reward={name: score_B.view(shape) for name, score_B in by_reward.items()},
            embedding_PGD=known.get("embedding"),
            predicted_embedding_KPGD=None if predicted_PGKD is None else predicted_PGKD.movedim(2, 0),
            category_PGC=known.get("category"),
            monitor_embedding_PGD=known.get("monitor"),
            counts_N=scored_counts(self.rewards, by_reward, known["finite"].flatten(), prompts),
            of_all=batch.split is not None,
            tasks=self._tasks(batch.prompts, reward_B.device),
        )

    def _tasks(self, prompts: Sequence[str], device: torch.device) -> Tasks | None:
        if not self.tasks:
            return None
        task_P = [self.tasks.index(tasks_of(self.rewards, [prompt])[0]) for prompt in prompts]
        return Tasks(torch.tensor(task_P, device=device), torch.tensor(self.tasks, device=device))

    def _look(self, trajectory: Trajectory, batch: PromptBatch, calls: RewardCalls) -> dict[str, Tensor]:
        """What rewards, encoders and categories say of this process's images: name -> [B, ...]."""
        images_B3HW = trajectory.images_B3HW
        said = {f"reward/{name}": score_B for name, score_B in calls.scores(images_B3HW).items()}
        said["finite"] = finite_images(images_B3HW)
        if self.encoder is not None:
            said["embedding"] = self._embed(self.encoder, images_B3HW)
            if trajectory.predicted_KBCHW is not None:
                images = map(self.decode, trajectory.predicted_KBCHW)
                said["predicted"] = torch.stack([self._embed(self.encoder, images_B3HW) for images_B3HW in images], 1)
        if self.categories is not None:
            said["category"] = row_per_image(CATEGORIES, self.categories, images_B3HW, batch.repeated_prompts)
        if self.monitor is not None:
            with torch.autocast(images_B3HW.device.type, enabled=False):  # in the precision of the images
                said["monitor"] = row_per_image(MONITOR, self.monitor, images_B3HW)
        return said

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
