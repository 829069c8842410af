"""The divergence of a step in the form of flow_grpo's code, for each of the samplers that it has.

Catches in sampling/stochastic.py: Flow-CPS's divergence times the step's length.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from drift_pl.sampling.rollout import ReplayedStep
from drift_pl.sampling.stochastic import FlowCps, FlowSde, StochasticStep
from drift_pl.training.updates.clipped import ClippedUpdate, SurrogateLoss

SIGMAS = torch.tensor([1.0, 0.9, 0.7, 0.4, 0.1, 0.0])
STEP = 2


def flow_grpo_std_dev_t(stochastic: StochasticStep) -> float:
    """`std_dev_t` of flow_grpo's `sde_step_with_logprob`: without sqrt(dt) for the SDE, the whole std for `cps`."""
    sigma, sigma_next = float(SIGMAS[STEP]), float(SIGMAS[STEP + 1])
    if isinstance(stochastic, FlowSde):
        return stochastic.noise_level * (sigma / (1 - sigma)) ** 0.5
    return sigma_next * float(torch.sin(torch.tensor(stochastic.noise_level * torch.pi / 2)))


@pytest.mark.parametrize("stochastic", [FlowSde(0.7), FlowCps(0.8)], ids=lambda stochastic: type(stochastic).__name__)
def test_it_is_what_flow_grpo_divides_by(stochastic: Any, generator: torch.Generator) -> None:
    """Oracle: ((prev_sample_mean - prev_sample_mean_ref) ** 2).mean(...) / (2 * std_dev_t ** 2)."""
    mean, reference = torch.randn(2, 3, 4, 2, 2, generator=generator)
    std, length = stochastic.spread(SIGMAS, STEP), SIGMAS[STEP] - SIGMAS[STEP + 1]
    step = ReplayedStep(torch.zeros(3), mean, reference, std, length)
    update = ClippedUpdate(
        updates=1, inner_epochs=1, micro_batch=4, skip_zero_advantage=True, kl_weight=0.1, kl_form="flow_grpo",
        ratio="plain", step_weights="none", trainable_steps=(0, 4), clip_range=1e-4,
    )  # fmt: skip
    context: Any = SimpleNamespace(sampler=SimpleNamespace(stochastic=stochastic))
    ours = SurrogateLoss(update, context, [1.0])._divergence(step, reference)
    expected = ((mean - reference) ** 2).mean((1, 2, 3)) / (2 * flow_grpo_std_dev_t(stochastic) ** 2)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)
