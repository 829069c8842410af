"""Judges for tests, named in configs as `judges:Thing`."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize


class Constant:
    """Every image scores the same."""

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        return torch.full((len(prompts),), 0.1)

    def to(self, device: object) -> "Constant":
        return self


class Brightness:
    """Mean pixel value; NaN for every `nan_every`-th image of a call (0: none)."""

    def __init__(self, nan_every: int = 0) -> None:
        self.nan_every = nan_every

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        score = images.mean((1, 2, 3))
        if self.nan_every:
            score[:: self.nan_every] = torch.nan
        return score

    def to(self, device: object) -> "Brightness":
        return self


class CoarsePixels:
    """An encoder that is smooth in the pixels: unit vectors of a 4 x 4 average.

    The encoders of the package round to 8 bits, as image files do: there, a difference in the last bit of a pixel may
    become one of 1/255.
    """

    def __call__(self, images: Tensor) -> Tensor:
        return normalize(adaptive_avg_pool2d(images.float(), 4).flatten(1), dim=-1)

    def to(self, device: object) -> "CoarsePixels":
        return self


class Broken(Brightness):
    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        raise ConnectionError("no answer")


class Redness:
    """Mean red minus mean blue, times a scale."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.scale * (images[:, 0] - images[:, 2]).mean((1, 2))

    def to(self, device: object) -> "Redness":
        return self


class BrightnessOfRed(Brightness):
    """Brightness where the prompt says red or blue, and the same number for every image where it does not."""

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        score_B = super().__call__(images, prompts)
        asked_B = torch.tensor(["red" in prompt or "blue" in prompt for prompt in prompts])
        return torch.where(asked_B, score_B, 0.5)
