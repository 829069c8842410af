"""Judges for tests, named in configs as `judges:Thing`."""

import torch
from torch import Tensor


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
