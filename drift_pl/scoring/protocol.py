"""Protocols of rewards, encoders and measures.

A plain function satisfies each of them. An object that holds a network also has `to(device)`, which `move` calls. A
reward that cuts long prompts may have `expect_prompts(prompts)`: it is given all of them before the first image, and
warns once (`core.text_length.CutTexts`). A reward that asks a server has `images_per_request`: if all of a
run's rewards have, they are asked while the next images are sampled.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


class Reward(Protocol):
    """A reward: higher is better."""

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores, float32 [B], of images in [0, 1] for their (clean) prompts; NaN where an image cannot be scored."""
        ...


class GroupReward(Protocol):
    """A reward that sees a prompt's images together, because an image's score depends on the others.

    Attributes:
        groupwise: True; on a plain function, set it as an attribute.
    """

    groupwise: bool

    def __call__(self, images_PG3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores, float32 [P, G], of images in [0, 1], for P prompts; NaN where an image cannot be scored."""
        ...


class Encoder(Protocol):
    """A frozen image encoder."""

    def __call__(self, images_B3HW: Tensor) -> Tensor:
        """Unit embeddings, float32 [B, D], of images in [0, 1]."""
        ...


class PairwiseDistance(Protocol):
    """A perceptual distance between images."""

    def __call__(self, images_S3HW: Tensor) -> Tensor:
        """Distances of all pairs, [S, S], of images in [0, 1]."""
        ...


@runtime_checkable
class MeanDistance(Protocol):
    """Optional part of a perceptual distance: the mean over all pairs without the distance of each."""

    def mean_distance(self, images_S3HW: Tensor) -> Tensor:
        """Mean distance of all pairs, 0-dimensional, of at least two images in [0, 1]."""
        ...


class Measure(Protocol):
    """Any other metric that evaluation reports; never trained on."""

    def __call__(self, images_PS3HW: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Named values per prompt, each float [P]; NaN where a prompt has none."""
        ...


@runtime_checkable
class ImageFilter(Protocol):
    """Optional part of a measure: which images count, because broken images are not diversity."""

    def counts(self, images_S3HW: Tensor, prompt: str) -> Tensor:
        """bool [S]: whether each image shows what the prompt specifies."""
        ...


def move(part: object, device: torch.device | str) -> None:
    """Moves an object that holds a network; does nothing for plain functions and None."""
    to = getattr(part, "to", None)
    if to is not None:
        with torch.set_grad_enabled(torch.is_grad_enabled()):  # whatever it switches off
            to(device)
