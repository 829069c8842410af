"""A reward outside of the package: a class that is called with images and their prompts."""

from collections.abc import Sequence

from torch import Tensor


class Brightness:
    """The mean of an image's pixels.

    Args:
        factor: of the score.
    """

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def __call__(self, images_B3HW: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.factor * images_B3HW.float().mean((1, 2, 3))
