"""Families of models as a user would write them, outside of the package."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from drift_pl.core.types import Condition
from drift_pl.policies.process import FlowProcess
from drift_pl.policies.protocol import Adapter
from drift_pl.policies.sd3 import StableDiffusion3Policy


class Louder(StableDiffusion3Policy):
    """A variant of a family of the package: its velocity is scaled."""

    family = "louder"

    def __init__(self, pipeline: Any, adapter: Adapter, resolution: int | None, gain: float) -> None:
        super().__init__(pipeline, adapter, resolution, max_sequence_length=0)
        self.gain = gain

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        return self.gain * super()._unguided(latents_BCHW, sigma, condition)


class Dots:
    """A model without diffusers: its latents are the image's pixels, and all of its weights train."""

    process = FlowProcess()

    def __init__(self, resolution: int | None, seed: int, width: int = 4) -> None:
        side = resolution or 8
        self.latent_shape = (3, side, side)
        self.network = nn.Sequential(nn.Conv2d(6, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1))
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.network.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        self.base = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.eval()

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        colours = torch.tensor([[float(name in prompt) for name in ("red", "green", "blue")] for prompt in prompts])
        return Condition(colours[:, None], None, torch.tensor([3]))

    def sigmas(self, num_steps: int) -> Tensor:
        return torch.linspace(1, 0, num_steps + 1)

    def predict(
        self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition, negative: Condition, guidance_scale: float
    ) -> Tensor:
        colour_BCHW = condition.tokens_BLE[:, 0, :, None, None].expand_as(latents_BCHW)
        return self.network(torch.cat([latents_BCHW, colour_BCHW], dim=1))

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        return latents_BCHW.float().sigmoid()

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.network.named_parameters()

    @contextmanager
    def reference(self) -> Iterator[None]:
        tuned = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.base)
        yield
        self.network.load_state_dict(tuned)

    def adapter_scale(self, scale: float) -> AbstractContextManager[None]:
        return nullcontext()

    def at_resolution(self, resolution: int | None) -> AbstractContextManager[None]:
        return nullcontext()

    def to(self, device: torch.device | str) -> "Dots":
        return self
