"""Category scores of images in the built-in world, for methods that measure diversity by category.

A category is a value of an attribute: "shown as a circle", "shown in red", and so on, 17 in all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drift_pl.builtin.captions import parse_indices
from drift_pl.builtin.reader import AttributeReader, shows
from drift_pl.builtin.world import ATTRIBUTES

CATEGORIES: tuple[tuple[str, int], ...] = tuple(
    (name, index) for name, values in ATTRIBUTES.items() for index in range(len(values))
)
"""(attribute, index into ``ATTRIBUTES[attribute]``) of every category, in the order of the scores' last dimension."""


class AttributeCategories:
    """Scores images for the values of the attributes that their prompts leave open, with the attribute reader.

    An attribute named by the prompt is not free to vary, so all of its values score 0. So does an image that is
    unreadable or off-prompt, because broken images are not diversity.
    """

    def __init__(self) -> None:
        self._reader = AttributeReader()

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        """How well each of B images in [0, 1] fits each of C categories, given its prompt.

        Returns:
            float32 [B, C] on the images' device, C as in ``CATEGORIES``: 1 where an image is readable and on-prompt,
            its prompt leaves the attribute open, and it shows this value; 0 elsewhere.

        Raises:
            ValueError: the number of prompts is not B, or the images are not 32x32.
        """
        if len(images_B3HW) != len(prompts):
            raise ValueError(f"{len(images_B3HW)} images for {len(prompts)} prompts")
        reading = self._reader(images_B3HW)
        on_prompt_B = torch.zeros(len(prompts), dtype=torch.bool)
        open_BC = torch.zeros(len(prompts), len(CATEGORIES), dtype=torch.bool)
        for prompt in set(prompts):
            rows_B = torch.tensor([other == prompt for other in prompts])
            named = parse_indices(prompt)
            on_prompt_B |= rows_B & shows(reading, named)
            open_BC[rows_B] = torch.tensor([name not in named for name, _ in CATEGORIES])
        shown_BC = torch.stack([reading.attributes[name] == index for name, index in CATEGORIES], dim=1)
        return (on_prompt_B[:, None] & open_BC & shown_BC).float().to(images_B3HW.device)
