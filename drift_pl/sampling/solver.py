"""The deterministic steps of one rollout: Euler's, or a second-order solver's, which needs the step before."""

from torch import Tensor

from drift_pl.functional.transition import flow_dpm2_step
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.sampler import Sampler


class DeterministicSteps:
    """Takes the steps of one rollout, in order; stochastic ones may lie between them.

    With `sampler.solver` `euler` a step is the process's own (`Process.deterministic_step`). With `dpm2` it is
    `flow_dpm2_step`, and Euler's at the start, at the end, and after a stochastic step, whose noise the prediction
    before it has not seen.
    """

    def __init__(self, policy: Policy, sampler: Sampler) -> None:
        self._policy, self._sampler = policy, sampler
        self._before: tuple[int, Tensor] | None = None

    def __call__(self, latents_BCHW: Tensor, step: int, condition: VariedCondition) -> Tensor:
        """The state after step number `step`, float32 [B, C, H, W]."""
        policy, sampler = self._policy, self._sampler
        sigma, sigma_next = sampler.sigmas[step], sampler.sigmas[step + 1]
        prediction = sampler.prediction(policy, latents_BCHW, step, condition)
        if sampler.solver == "euler":
            return policy.process.deterministic_step(latents_BCHW, prediction, sigma, sigma_next)
        clean_BCHW, before = policy.process.clean(latents_BCHW, prediction, sigma), self._before
        self._before = (step, clean_BCHW)
        if before is None or before[0] != step - 1 or step == sampler.num_steps - 1:
            return flow_dpm2_step(latents_BCHW, clean_BCHW, sigma, sigma_next, None)
        return flow_dpm2_step(latents_BCHW, clean_BCHW, sigma, sigma_next, (sampler.sigmas[step - 1], before[1]))
