"""How a policy is sampled: noise levels, guidance, and the step that it would take."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.rng import normal_per_sample
from drift_pl.core.types import Condition
from drift_pl.functional.guidance import aig_weight, mix_predictions
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.stochastic import StochasticStep


@dataclass(frozen=True)
class Transition:
    """A stochastic step as a policy would take it.

    Attributes:
        mean_BCHW, std: of the Gaussian that the next state is drawn from; the policy does not change the std.
        predicted_BCHW: the clean latents that the policy expects, see `Process.clean`.
    """

    mean_BCHW: Tensor
    std: Tensor
    predicted_BCHW: Tensor

    def drawn(self, generators: Sequence[torch.Generator]) -> Tensor:
        """A next state, [B, C, H, W]; the noise of row b comes from `generators[b]` alone."""
        noise_BCHW = normal_per_sample(generators, self.mean_BCHW.shape[1:], self.mean_BCHW.device)
        return self.mean_BCHW + self.std * noise_BCHW


@dataclass(frozen=True)
class Sampler:
    """How a policy is sampled; `Policy.process` defines what its noise levels and predictions mean.

    Attributes:
        sigmas: noise levels of the grid, [T + 1], falling; see `Policy.sigmas`.
        guidance_scale: of rollouts and training.
        negative: condition of the unconditional branch, one row.
        stochastic: the steps with noise; None for deterministic sampling alone.
        solver: of deterministic steps, `euler` or `dpm2`, see `DeterministicSteps`.
        importance_power: p of annealed importance guidance (arXiv 2409.06493), which mixes in the reference's
            prediction: all of it at pure noise, less and less towards the image. None for the policy alone.
    """

    sigmas: Tensor
    guidance_scale: float
    negative: Condition
    stochastic: StochasticStep | None = None
    importance_power: float | None = None
    solver: str = "euler"

    @property
    def num_steps(self) -> int:
        return len(self.sigmas) - 1

    def prediction(self, policy: Policy, latents_BCHW: Tensor, step: int, condition: VariedCondition) -> Tensor:
        """The policy's guided prediction, with the reference's mixed in if `importance_power` is set."""
        time = policy.process.time(self.sigmas[step])
        inputs = (latents_BCHW, self.sigmas[step], condition.at(time), self.negative, self.guidance_scale)
        prediction = policy.predict(*inputs)
        if self.importance_power is None:
            return prediction
        with policy.reference():
            base = policy.predict(*inputs)
        return mix_predictions(base, prediction, aig_weight(1 - time, self.importance_power))

    def transition(self, policy: Policy, latents_BCHW: Tensor, step: int, condition: VariedCondition) -> Transition:
        """Stochastic step number `step`."""
        assert self.stochastic is not None
        prediction = self.prediction(policy, latents_BCHW, step, condition)
        mean_BCHW, std = self.stochastic.moments(latents_BCHW, prediction, self.sigmas, step)
        return Transition(mean_BCHW, std, policy.process.clean(latents_BCHW, prediction, self.sigmas[step]))

    def spread(self, step: int) -> tuple[Tensor, Tensor]:
        """Standard deviation and length sigma - sigma_next of stochastic step number `step`."""
        assert self.stochastic is not None
        return self.stochastic.spread(self.sigmas, step), self.sigmas[step] - self.sigmas[step + 1]
