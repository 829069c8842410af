"""Videos as pictures, their frames side by side, [B, 3, H, F x W]; and what scores or embeds images, on their frames.

Everything else shows, keeps and counts such a picture like any other image.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from drift_pl.core.rng import sample_generators
from drift_pl.functional.diversity import cosine_kernel, mean_pairwise_distance
from drift_pl.scoring.calls import as_numbers, numbers_per_image, row_per_image
from drift_pl.scoring.protocol import Encoder, GroupReward, MeanDistance, PairwiseDistance, Reward

SHOWN = 5
"""Frames of a video on grids, from the first to the last."""


def frame_of(pictures: Tensor, number: int, frames: int) -> Tensor:
    """Frame `number` of videos of `frames`, [..., 3, H, W], of [..., 3, H, F x W]."""
    return pictures.unflatten(-1, (frames, -1))[..., number, :]


def random_frames(pictures_B3HW: Tensor, frames: int, key: Sequence[int], samples: Sequence[int]) -> Tensor:
    """One frame of each video, [B, 3, H, W]: a function of the run's seed, the iteration and the video's index.

    Args:
        key: seed and iteration.
        samples: indices of the videos in the iteration.
    """
    draws = sample_generators("reward_frame", *key, samples=samples)
    chosen = [int(torch.randint(frames, (), generator=generator)) for generator in draws]
    pairs = zip(pictures_B3HW, chosen, strict=True)
    return torch.stack([frame_of(picture_3HW, number, frames) for picture_3HW, number in pairs])


def few_frames(pictures_B3HW: Tensor, frames: int) -> Tensor:
    """At most `SHOWN` frames of each video, evenly from the first to the last, side by side."""
    chosen = torch.linspace(0, frames - 1, min(frames, SHOWN)).round().long()
    return pictures_B3HW.unflatten(-1, (frames, -1))[..., chosen, :].flatten(-2)


class OnFrames:
    """Base class of what applies a reward, encoder or distance of images to the frames of videos.

    Attributes that it does not have itself are those of the wrapped thing: `to`, `groupwise`, `expect_prompts`, etc.

    Args:
        thing: the reward, encoder or distance of images.
        frames: F, of a video.
    """

    def __init__(self, thing: Any, frames: int) -> None:
        self.thing, self.frames = thing, frames

    def __getattr__(self, name: str) -> Any:
        if name in ("thing", "frames") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.thing, name)


class FrameReward(OnFrames):
    """The mean of a reward over the frames of a video, or its value for the first.

    NaN if a frame of the mean cannot be scored.
    """

    thing: Reward | GroupReward

    def __init__(self, thing: Reward | GroupReward, frames: int, first: bool = False) -> None:
        super().__init__(thing, frames)
        self.seen = 1 if first else frames

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores, float32 [B], of pictures of videos; [P, G] of a groupwise reward's [P, G, 3, H, F x W]."""
        parts = (frame_of(images_B3HW, number, self.frames) for number in range(self.seen))
        return torch.stack([numbers_per_image("a frame's reward", self.thing, part, [prompts]) for part in parts]).mean(
            0
        )


class FrameEncoder(OnFrames):
    """The mean of the unit embeddings of a video's frames, of unit length."""

    thing: Encoder

    def of_frames(self, pictures_B3HW: Tensor) -> Tensor:
        """Unit embeddings of every frame, float32 [F, B, D]."""
        parts = (frame_of(pictures_B3HW, number, self.frames) for number in range(self.frames))
        return torch.stack([normalize(row_per_image("frames", self.thing, part).float(), dim=-1) for part in parts])

    def __call__(self, images_B3HW: Tensor) -> Tensor:
        return normalize(self.of_frames(images_B3HW).mean(0), dim=-1)


class FrameDistance(OnFrames):
    """The mean over frames of a perceptual distance between the same frames of two videos."""

    thing: PairwiseDistance

    def _mean(self, distance: Any, pictures_S3HW: Tensor) -> Tensor:
        parts = (frame_of(pictures_S3HW, number, self.frames) for number in range(self.frames))
        return torch.stack([as_numbers("a distance", distance(part), "numbers", "S, S") for part in parts]).mean(0)

    def __call__(self, images_S3HW: Tensor) -> Tensor:
        """Distances of all pairs, [S, S]."""
        return self._mean(self.thing, images_S3HW)

    def mean_distance(self, images_S3HW: Tensor) -> Tensor:
        """Mean distance of all pairs, 0-dimensional; see `MeanDistance`."""
        if isinstance(self.thing, MeanDistance):
            return self._mean(self.thing.mean_distance, images_S3HW)
        return mean_pairwise_distance(self(images_S3HW))


class FrameVariety:
    """Variety between videos frame by frame, and within a video over time: mean pairwise cosine distances, in [0, 2].

    Args:
        encoder: of the frames.
    """

    def __init__(self, encoder: FrameEncoder) -> None:
        self.encoder = encoder

    def __call__(self, images_PS3HW: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """`frame_pairwise_distance` and `time_pairwise_distance`, each [P]."""
        between, within = [], []
        for images_S3HW in images_PS3HW:
            rows_FSD = self.encoder.of_frames(images_S3HW)
            between.append(_mean_distance(rows_FSD))
            within.append(_mean_distance(rows_FSD.transpose(0, 1)))
        return {"frame_pairwise_distance": torch.stack(between), "time_pairwise_distance": torch.stack(within)}


def _mean_distance(rows_NSD: Tensor) -> Tensor:
    """Mean over N sets of the mean cosine distance between the rows of a set."""
    return torch.stack([mean_pairwise_distance(1 - cosine_kernel(rows_SD)) for rows_SD in rows_NSD]).mean()
