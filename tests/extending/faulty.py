"""Things of a user's module that are wrong, each in one way."""

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.types import Scores
from drift_pl.incentive.methods.protocol import RewardMethod
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.stochastic import FlowSde, StochasticStep
from drift_pl.training.updates.passes import Passes


class Breaks(RewardMethod):
    def advantage(self, advantage_PG: Tensor, scores: Scores) -> Tensor:
        raise RuntimeError("out of paint")


class NoUpdate:
    pass


@dataclass(frozen=True)
class WrongLoss(Passes):
    def loss(self, context: Any) -> Any:
        return Scalar()


class Scalar:
    factors = (1.0,)

    def __call__(self, rows_B: Tensor, weight_B: Tensor, n: int, first: bool) -> Tensor:
        return torch.zeros((), requires_grad=True)


class NoProcess(StochasticStep):
    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> tuple[Tensor, Tensor]:
        return latents_BCHW, sigmas[number]


class NoMean(FlowSde):
    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> Any:
        found = super().step(latents_BCHW, prediction_BCHW, sigmas, number)
        return None if latents_BCHW.ndim > 1 else found


class OneMean(FlowSde):
    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> Any:
        mean, std = super().step(latents_BCHW, prediction_BCHW, sigmas, number)
        return (mean[:1, :1] if latents_BCHW.ndim > 1 else mean), std


class NoPair(FlowSde):
    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> Any:
        return super().step(latents_BCHW, prediction_BCHW, sigmas, number)[1]


@dataclass(frozen=True)
class Forgetful(Passes):
    def loss(self, context: Any) -> Any:
        Scalar()


class Closed(StableDiffusion3Policy):
    def __init__(self) -> None:
        pass


class Gridless(StableDiffusion3Policy):
    def sigmas(self, num_steps: int) -> Any:
        return None


class Resting(StableDiffusion3Policy):
    def sigmas(self, num_steps: int) -> Any:
        levels = super().sigmas(num_steps)
        levels[-2] = 0.0
        return levels


class OneChannel(StableDiffusion3Policy):
    family = "one_channel"

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Any) -> Tensor:
        return super()._unguided(latents_BCHW, sigma, condition)[:, :1]


class Deaf(L.Callback):
    def observe_iteration(self, report: Any, scores: Any) -> None:
        pass


class Monolingual(StableDiffusion3Policy):
    def encode(self, prompts: Any) -> Any:  # without `negative`
        return super().encode(prompts)


class Impatient(Passes):
    def run(self) -> Any:
        return iter(())


class Simple(RewardMethod):
    def reward(self) -> Any:
        return torch.zeros(1)
