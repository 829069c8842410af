"""Loops over micro-batches and steps never read a value back from the device: they would wait for it in every pass.

Oracles: the meta device, whose tensors have no values to read; and, on an accelerator, CUDA's own debug mode, which
also sees copies from pageable memory.

Catches in sampling/rollout.py: a finiteness check in every step; the log-density read as a number.
Catches in policies/sd3.py: the timestep copied from the CPU in every pass (on an accelerator).
"""

from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Trajectory
from drift_pl.incentive.prompting import EmbeddingNoise, VariedCondition
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.groups import GroupSampling, RolloutPlan, Window
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.stochastic import FlowSde
from drift_pl.training.experience import Experience
from drift_pl.training.reporting import IterationReport
from drift_pl.training.updates.clipped import ClippedUpdate
from drift_pl.training.updates.nft import NftUpdate
from drift_pl.training.updates.protocol import UpdateContext

BATCH = PromptBatch(seed=7, iteration=3, prompts=("a red cat", "sky"), groups=(0, 1), group_size=3)
COMMON = {"inner_epochs": 1, "updates": 1, "micro_batch": 2, "skip_zero_advantage": False, "kl_weight": 0.1}
UPDATES = {
    "surrogate": ClippedUpdate(**COMMON, clip_range=1e-3, kl_form="exact", ratio="plain", step_weights="none",
                               trainable_steps=(0, 4)),
    "nft": NftUpdate(**COMMON, nft_times=2, nft_beta=1.0, advantage_clip=5.0),
}  # fmt: skip


@dataclass
class Sampled:
    sampling: GroupSampling
    condition: VariedCondition
    trajectory: Trajectory


def sample(policy: StableDiffusion3Policy, device: torch.device) -> Sampled:
    plan = RolloutPlan(5, FlowSde(0.7), 2.0, "", Window(1, 4, 2))
    sampling = GroupSampling(policy, PromptEncoder(policy), EmbeddingNoise(0.5, 0.0, 0.1), plan, micro_batch=2)
    sampling.encode([*BATCH.prompts, ""], device)  # text encoders may wait: each text is encoded once
    sampling.encode([""], device, negative=True)
    policy.network.to(device)
    policy.pipeline.vae.to(device)
    return Sampled(sampling, *sampling(BATCH, device))


def losses(policy: StableDiffusion3Policy, sampled: Sampled, update: Any, device: torch.device) -> list[Tensor]:
    """Of every pass over the images, as `Passes` takes them, after a backward pass each."""
    trajectory = sampled.trajectory
    advantage_PG = torch.ones(2, 3, device=device)
    kept_PG = torch.ones(2, 3, dtype=torch.bool, device=device)
    experience = Experience(BATCH, trajectory, sampled.condition, kept_PG, advantage_PG, None)
    sampler, report = sampled.sampling.sampler(device), IterationReport()
    context = UpdateContext(SimpleNamespace(), policy, sampler, experience, torch.ones(1), report)
    loss = update.loss(context)
    parts = []
    for rows_B in torch.arange(6).split(2):
        for n in range(len(loss.factors)):
            parts.append(loss(rows_B, torch.ones(2, device=device), n, True).sum())
            parts[-1].backward()
    return parts


@pytest.mark.parametrize("name", list(UPDATES))
def test_nothing_is_read_back_from_the_device(
    tiny_policy: StableDiffusion3Policy, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # it does not know the device
    meta = torch.device("meta")
    sampled = sample(tiny_policy, meta)
    assert sampled.trajectory.images_B3HW.device.type == "meta"
    assert all(part.device.type == "meta" for part in losses(tiny_policy, sampled, UPDATES[name], meta))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", list(UPDATES))
def test_cuda_never_waits_in_the_loops(tiny_policy: StableDiffusion3Policy, name: str) -> None:
    device = torch.device("cuda")
    sample(tiny_policy, device)  # what waits once: kernels that are compiled or chosen at their first call
    losses(tiny_policy, sample(tiny_policy, device), UPDATES[name], device)
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses(tiny_policy, sample(tiny_policy, device), UPDATES[name], device)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
