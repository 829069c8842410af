"""The noising process that a model was trained on: rectified flow, or DDPM. Every policy has one.

A process defines what a noise level sigma, a state x and a prediction mean:

    flow   x = (1 - sigma) x_0 + sigma noise               prediction: velocity v = noise - x_0
    ddpm   x = sqrt(1 - sigma^2) x_0 + sigma noise         prediction: noise

A stochastic step (`sampling/stochastic.py`) says which process's predictions it takes.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from drift_pl.functional.ddim import ddim_clean, ddim_step, flow_time
from drift_pl.functional.transition import flow_ode_step


class Process(Protocol):
    """The operations of a process that sampling needs. The grid of noise levels is the model's: `Policy.sigmas`.

    Noise levels are 0-dimensional tensors of that grid. Results are float32.
    """

    @property
    def name(self) -> str:
        """`flow` or `ddpm`; steps and losses for one process say which."""
        ...

    def time(self, sigma: Tensor) -> float:
        """The noise level on a scale shared by all processes, from 1 (noise) to 0 (image)."""
        ...

    def clean(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigma: Tensor) -> Tensor:
        """The clean latents x_0 implied by a prediction, [B, C, H, W]."""
        ...

    def deterministic_step(
        self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigma: Tensor, sigma_next: Tensor
    ) -> Tensor:
        """The state at `sigma_next`, [B, C, H, W], by the process's deterministic sampler."""
        ...


@dataclass(frozen=True)
class FlowProcess:
    """Rectified flow (arXiv 2209.03003), sampled by Euler steps of its ODE."""

    name: str = "flow"

    def time(self, sigma: Tensor) -> float:
        return float(sigma)

    def clean(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigma: Tensor) -> Tensor:
        return latents_BCHW.float() - sigma * prediction_BCHW.float()

    def deterministic_step(
        self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigma: Tensor, sigma_next: Tensor
    ) -> Tensor:
        return flow_ode_step(latents_BCHW, prediction_BCHW, sigma, sigma_next)


@dataclass(frozen=True)
class DdpmProcess:
    """DDPM (arXiv 2006.11239) with sigma = sqrt(1 - alpha_bar), sampled by DDIM with eta = 0 (arXiv 2010.02502)."""

    name: str = "ddpm"

    def time(self, sigma: Tensor) -> float:
        """The noise level of the flow with the same ratio of signal to noise."""
        return flow_time(float(sigma))

    def clean(self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigma: Tensor) -> Tensor:
        return ddim_clean(latents_BCHW, prediction_BCHW, sigma)

    def deterministic_step(
        self, latents_BCHW: Tensor, prediction_BCHW: Tensor, sigma: Tensor, sigma_next: Tensor
    ) -> Tensor:
        return ddim_step(latents_BCHW, prediction_BCHW, sigma, sigma_next, 0.0)[0]
