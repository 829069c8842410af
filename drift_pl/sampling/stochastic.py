"""Stochastic steps: how the next state of a rollout is drawn. One small class per published sampler.

A step of this package has a line in the registry's table `sampler`; one of another package is given as
`sampler.kind=their_package.module:Thing`, and its constructor gets the keys of the section `sampler` that it names.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from drift_pl.core.answers import of_shape
from drift_pl.core.errors import UserError
from drift_pl.functional.ddim import ddim_step
from drift_pl.functional.transition import flow_cps_step, flow_sde_diffusion, flow_sde_step


class StochasticStep(ABC):
    """A Gaussian whose mean depends on the policy's prediction and whose standard deviation does not.

    Attributes:
        process: the kind of predictions it takes, `flow` (velocity) or `ddpm` (noise); see `Process`.
        std_has_length: whether the standard deviation is a diffusion coefficient times the root of the step's length,
            as an SDE's is. flow_grpo's KL divides by the coefficient alone, and under Flow-CPS, which has none, by the
            whole standard deviation.
    """

    process: ClassVar[str]
    std_has_length: ClassVar[bool] = True

    @abstractmethod
    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Mean, float32 [B, C, H, W], and standard deviation, 0-dimensional, of the state after a step.

        Args:
            prediction_BCHW: guidance applied.
            sigmas: noise levels of the grid, [T + 1], falling.
            number: of the step, 0 to T - 1: from sigmas[number] to sigmas[number + 1].
        """

    def moments(
        self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int
    ) -> tuple[Tensor, Tensor]:
        """`step`, whose answer is checked.

        Raises:
            UserError: it returns anything else than a mean of the latents' shape and a standard deviation.
        """
        what = f"sampler.kind: {type(self).__name__}.step"
        answer = self.step(latents_BCHW, prediction_BCHW, sigmas, number)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise UserError(f"{what} returned {type(answer).__name__}: return a mean and a standard deviation")
        return of_shape(f"{what}: the mean", answer[0], latents_BCHW.shape), torch.as_tensor(answer[1])

    def spread(self, sigmas: Tensor, number: int) -> Tensor:
        """The standard deviation alone, 0-dimensional."""
        nothing = torch.zeros(())
        return self.moments(nothing, nothing, sigmas, number)[1]

    def sensitivity(self, sigmas: Tensor, number: int) -> float:
        """How far a change of the prediction by 1 moves the mean, in standard deviations.

        The log-ratio of the step moves in proportion: a step many times as sensitive as the others is the only one that
        a clip acts on.
        """
        nothing, one = torch.zeros(()), torch.ones(())
        (moved, std), (still, _) = (self.moments(nothing, change, sigmas, number) for change in (one, nothing))
        return float((moved - still).abs() / std)


@dataclass(frozen=True)
class FlowSde(StochasticStep):
    """Flow-GRPO's SDE (arXiv 2505.05470): diffusion s = a sqrt(sigma / (1 - sigma)), with a = `noise_level` > 0."""

    noise_level: float
    process = "flow"

    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> tuple[Tensor, Tensor]:
        sigma, sigma_next = sigmas[number], sigmas[number + 1]
        diffusion = flow_sde_diffusion(sigma, sigmas[1], self.noise_level)
        return flow_sde_step(latents_BCHW, prediction_BCHW, sigma, sigma_next, diffusion)


@dataclass(frozen=True)
class DanceSde(StochasticStep):
    """DanceGRPO's SDE (arXiv 2505.07818): diffusion s = `noise_level` > 0 at every noise level."""

    noise_level: float
    process = "flow"

    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> tuple[Tensor, Tensor]:
        diffusion = torch.as_tensor(self.noise_level)
        return flow_sde_step(latents_BCHW, prediction_BCHW, sigmas[number], sigmas[number + 1], diffusion)


@dataclass(frozen=True)
class FlowCps(StochasticStep):
    """Coefficients-preserving sampling (Flow-CPS, arXiv 2509.05952); `noise_level` in (0, 1] is an angle."""

    noise_level: float
    process = "flow"
    std_has_length = False

    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> tuple[Tensor, Tensor]:
        return flow_cps_step(latents_BCHW, prediction_BCHW, sigmas[number], sigmas[number + 1], self.noise_level)


@dataclass(frozen=True)
class Ddim(StochasticStep):
    """DDIM's steps as a policy (DDPO, arXiv 2305.13301); `noise_level` in (0, 1] is eta."""

    noise_level: float
    process = "ddpm"
    std_has_length = False

    def step(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigmas: Tensor, number: int) -> tuple[Tensor, Tensor]:
        return ddim_step(latents_BCHW, prediction_BCHW, sigmas[number], sigmas[number + 1], self.noise_level)
