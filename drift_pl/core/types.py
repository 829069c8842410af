"""Data passed between the stages of an iteration, and the package's legend of tensor shapes.

Tensor names carry their shape as a suffix:

    P  prompts, each with one group of images, on this process
    G  images per group                 B  images: B = P * G, image b belongs to group b // G
    T  sampling steps                   K  sampling steps that are trained (the SDE window); K + 1 latents border them
    L  text tokens                      E  channels of a text token
    C, H, W  latent (or image) channels, height, width
    F  frames of a video: an axis of latents before H; decoded they are side by side, 3HW of H x (F W)
    D  channels of an image embedding   S  evaluation images per prompt

CHW is written for the latents of one sample; those of a family of videos are CFHW. Sampling, replay, log-densities and
losses take any number of axes after B: they flatten them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from drift_pl.core.rng import to_device


@dataclass(frozen=True)
class Condition:
    """Encoded prompts that a policy is conditioned on.

    Attributes:
        tokens_BLE: text tokens, float [B, L, E].
        pooled_BE: pooled embedding, float [B, E'], or None where the family has none.
        num_channels_L: int64 [L], number of leading channels of each token that a text encoder wrote. The rest is zero
            padding: SD3 pads CLIP's channels to T5's width, and appends whole zero tokens (0 here) in place of T5.
        num_tokens_B: int64 [B], number of valid leading tokens of each row, if prompts differ in length; the rest is
            zero padding that no variation changes, nor any network sees but Wan's. None: all L tokens of every row are
            valid.
    """

    tokens_BLE: Tensor
    pooled_BE: Tensor | None
    num_channels_L: Tensor
    num_tokens_B: Tensor | None = None

    def __len__(self) -> int:
        return self.tokens_BLE.shape[0]

    @property
    def nbytes(self) -> int:
        return sum(rows.nbytes for rows in self._rows().values()) + self.num_channels_L.nbytes

    def __getitem__(self, index: slice | Tensor) -> "Condition":
        return replace(self, **{name: rows[index] for name, rows in self._rows().items()})

    def repeat_interleave(self, repeats: int) -> "Condition":
        """Each row `repeats` times, contiguously: one block per prompt's group."""
        index = torch.arange(len(self), device=self.tokens_BLE.device).repeat_interleave(repeats)
        return self[index]

    def to(self, device: torch.device | str) -> "Condition":
        """Moves the rows; `num_channels_L` is the same for all, and is read on the CPU."""
        rows = {name: to_device(rows, device) for name, rows in self._rows().items()}
        return replace(self, num_channels_L=self.num_channels_L.to("cpu"), **rows)

    @staticmethod
    def concatenate(conditions: Sequence["Condition"]) -> "Condition":
        """Rows of several conditions of one policy, in order."""
        parts = [condition._rows() for condition in conditions]
        return replace(conditions[0], **{name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def _rows(self) -> dict[str, Tensor]:
        """The tensors with a row per prompt that this condition has."""
        return {name: value for name, value in vars(self).items() if value is not None and name != "num_channels_L"}


@dataclass(frozen=True)
class Trajectory:
    """A rollout, stored exactly as it was sampled and scored.

    Attributes:
        latents_KBCHW: float32 [K + 1, B, C, H, W], the states that border the trained steps, and one more for each gap
            between these; `place(k)` is the entry before trained step k, and the next one is the state after it.
        log_prob_KB: float32 [K, B], log-density of each trained transition, mean over latent elements.
        steps_K: the trained steps' positions in the sampler's grid, ascending; none if the rollout followed the ODE.
        num_steps: T, steps of the whole grid.
        final_BCHW: latents of the final images, float32: after the trained steps and those that follow.
        images_B3HW: final_BCHW decoded, in [0, 1], float32.
        mean_KBCHW: means of the trained steps under the policy that sampled them; None unless needed.
        predicted_KBCHW: clean latents predicted by the policy at each trained step, see `Process.clean`; None unless
            needed.
    """

    latents_KBCHW: Tensor
    log_prob_KB: Tensor
    steps_K: tuple[int, ...]
    num_steps: int
    final_BCHW: Tensor
    images_B3HW: Tensor
    mean_KBCHW: Tensor | None = None
    predicted_KBCHW: Tensor | None = None

    def place(self, k: int) -> int:
        """The entry of `latents_KBCHW` that trained step k starts from."""
        return k + sum(after > before + 1 for before, after in pairwise(self.steps_K[: k + 1]))

    def without_nan(self) -> "Trajectory":
        """The same trajectory, with zeros in place of states and densities that are not finite.

        Such images are not trained on. But a process with no other image computes a loss of weight 0, because all
        processes take part in the sum of gradients, and 0 x NaN is NaN.
        """
        if self.latents_KBCHW.isfinite().all() and self.final_BCHW.isfinite().all():
            return self

        return replace(
            self,
            latents_KBCHW=self.latents_KBCHW.nan_to_num(0.0, 0.0, 0.0),
            log_prob_KB=self.log_prob_KB.nan_to_num(0.0, 0.0, 0.0),
            final_BCHW=self.final_BCHW.nan_to_num(0.0, 0.0, 0.0),
            mean_KBCHW=None if self.mean_KBCHW is None else self.mean_KBCHW.nan_to_num(0.0, 0.0, 0.0),
        )

    @staticmethod
    def concatenate(parts: Iterable["Trajectory"], num_images: int) -> "Trajectory":
        """Joins rollouts of the same window along the image axis, in order, as they come: none of them is kept.

        Args:
            num_images: of all parts together.
        """
        whole, done = None, 0
        for part in parts:
            whole = whole or part._empty(num_images)
            rows = slice(done, done := done + len(part.images_B3HW))
            for name, axis in part._axes().items():
                getattr(whole, name)[(slice(None),) * axis + (rows,)] = getattr(part, name)
        if whole is None or done != num_images:
            raise ValueError(f"{done} images are not {num_images}")
        return whole

    def _axes(self) -> dict[str, int]:
        """The axis of images of each tensor: the place of B in its suffix."""
        suffixes = {name: name.rpartition("_")[2] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return {name: suffix.index("B") for name, suffix in suffixes.items()}

    def _empty(self, num_images: int) -> "Trajectory":
        """Uninitialised tensors for `num_images` images."""

        def empty(value: Tensor, axis: int) -> Tensor:
            return value.new_empty(*value.shape[:axis], num_images, *value.shape[axis + 1 :])

        return replace(self, **{name: empty(getattr(self, name), axis) for name, axis in self._axes().items()})


@dataclass(frozen=True)
class Tasks:
    """Which rewards score which groups, in a run whose prompts name theirs. Groups of one set of rewards are one task.

    Attributes:
        task_P: int64, each group's task.
        asked_XR: bool, whether a task has a reward, for each of X tasks and each reward in order.
    """

    task_P: Tensor
    asked_XR: Tensor


@dataclass(frozen=True)
class Scores:
    """Rewards and embeddings of one iteration's images.

    Attributes:
        reward_PG: weighted sum of the rewards, float32; NaN for an image that any of its rewards could not score.
        by_reward: reward name -> raw value, float32 [P, G]; NaN for what it could not score, or was not asked for.
        embedding_PGD: unit embeddings by the shaping encoder, or None if not needed.
        predicted_embedding_KPGD: the same for the images predicted at each trained step, or None.
        category_PGC: how well an image fits each of C named categories, float32; or None without categories.
        monitor_embedding_PGD: unit embeddings by the evaluation encoder, or None. Nothing may be trained on them.
        counts_N: numbers of images, of finite images, and of images that each reward was asked for, and scored:
            float64 [2 + 2 R], on the CPU; or None.
        of_all: whether they are those of all groups of the iteration, the same on every process, and not of this
            process's own.
        tasks: None where every reward scores every group.
    """

    reward_PG: Tensor
    by_reward: dict[str, Tensor]
    embedding_PGD: Tensor | None
    predicted_embedding_KPGD: Tensor | None = None
    category_PGC: Tensor | None = None
    monitor_embedding_PGD: Tensor | None = None
    counts_N: Tensor | None = None
    of_all: bool = False
    tasks: Tasks | None = None

    @property
    def valid_PG(self) -> Tensor:
        """bool: images with a finite reward and, if present, finite embeddings."""
        valid_PG = self.reward_PG.isfinite()
        return valid_PG if self.embedding_PGD is None else valid_PG & self.embedding_PGD.isfinite().all(-1)
