"""A rule-based reward: the share of the attributes named by a prompt that an image shows. Nothing is learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drift_pl.builtin.captions import parse_indices
from drift_pl.builtin.reader import AttributeReader


class AttributeJudge:
    """GenEval-style reward (arXiv 2310.11513) on the built-in world, with the attribute reader.

    When training on it, ``rewards=[{name: drift_pl.builtin.judge:AttributeJudge}]``, do not evaluate with the reader: a
    reward that is trained on no longer measures image quality.
    """

    def __init__(self) -> None:
        self._reader = AttributeReader()

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        """Rewards of B images in [0, 1].

        Returns:
            float32 [B] on the images' device: the share of the prompt's attributes that the image shows, in [0, 1]; 0
            for an unreadable image, 1 for a readable image if the prompt names nothing.

        Raises:
            ValueError: the number of prompts is not B, or the images are not 32x32.
        """
        if len(images_B3HW) != len(prompts):
            raise ValueError(f"{len(images_B3HW)} images for {len(prompts)} prompts")
        reading = self._reader(images_B3HW)
        scores = []
        for row, prompt in enumerate(prompts):
            named = parse_indices(prompt)
            shown = [bool(reading.attributes[name][row] == index) for name, index in named.items()]
            share = sum(shown) / len(shown) if shown else 1.0
            scores.append(share * float(reading.readable_B[row]))
        return torch.tensor(scores, device=images_B3HW.device)
