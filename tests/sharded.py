"""What runs in the processes of tests of sharded networks: a policy of a tiny folder over all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tiny_policies import load_tiny
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from drift_pl.policies.pipeline import PipelinePolicy

PROMPTS = ["a red cat", "sky"]


@contextmanager
def process_group() -> Iterator[DeviceMesh]:
    """All processes of `run_processes`, over gloo."""
    torch.distributed.init_process_group("gloo")
    try:
        yield init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    finally:
        torch.distributed.destroy_process_group()


def load_sharded(folder: Path, mesh: DeviceMesh, family: str = "sd3", **options: Any) -> PipelinePolicy:
    policy = load_tiny(family, folder, sharded=True, **options)
    policy.shard(mesh)
    return policy


def prediction(policy: PipelinePolicy, guidance_scale: float = 1.0) -> Tensor:
    """Of two latents, with gradient."""
    condition = policy.encode(PROMPTS)
    latents = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(2))
    sigma = policy.sigmas(5)[2]
    return policy.predict(latents, sigma, condition, policy.encode([""], negative=True), guidance_scale)


def train(policy: PipelinePolicy, steps: int = 2) -> torch.optim.Optimizer:
    """Some optimizer steps on any loss."""
    optimizer = torch.optim.SGD([parameter for _, parameter in policy.trainable_parameters()], lr=0.3)
    for _ in range(steps):
        prediction(policy).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer
