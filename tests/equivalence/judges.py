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


class Blackening(Brightness):
    """Blackens the images that it has scored."""

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        score_B = super().__call__(images, prompts)
        images.zero_()
        return score_B


class Learning(torch.nn.Module):
    """Brightness by way of a parameter, without `no_grad`."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.one * images.mean((1, 2, 3))


class SwitchingOff(Brightness):
    """Switches gradients off for good, wherever it can."""

    def __init__(self) -> None:
        super().__init__()
        torch.set_grad_enabled(False)

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        torch.set_grad_enabled(False)
        return super().__call__(images, prompts)

    def to(self, device: object) -> "SwitchingOff":
        torch.set_grad_enabled(False)
        return self


class Rounding(Brightness):
    """The same of all images, up to 1e-7 of noise."""

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        score_B = super().__call__(images, prompts)
        return 0.5 + 1e-7 * (score_B - score_B.mean()) / score_B.std()
