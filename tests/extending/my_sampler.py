"""Stochastic steps as a user would write them, outside of the package."""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.functional.transition import flow_sde_step
from drift_pl.sampling.stochastic import StochasticStep


@dataclass(frozen=True)
class Fading(StochasticStep):
    """A diffusion that falls with the noise level: s = a sigma^p."""

    noise_level: float
    power: float = 1.0
    process = "flow"

    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> tuple[Tensor, Tensor]:
        diffusion = self.noise_level * sigmas[number] ** self.power
        return flow_sde_step(latents_BCHW, prediction_BCHW, sigmas[number], sigmas[number + 1], diffusion)


@dataclass(frozen=True)
class Silent(StochasticStep):
    """Has no noise in its first step."""

    noise_level: float
    process = "flow"

    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> tuple[Tensor, Tensor]:
        diffusion = torch.tensor(self.noise_level if number else 0.0)
        return flow_sde_step(latents_BCHW, prediction_BCHW, sigmas[number], sigmas[number + 1], diffusion)
