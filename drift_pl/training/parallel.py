"""What crosses processes: small vectors before and after an update, and the gradient once per optimiser step."""

from contextlib import AbstractContextManager, nullcontext

import lightning as L
import torch
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together."""
    return torch.distributed.get_world_size() if _initialised() else 1


def gather_vectors(vector_N: Tensor, device: torch.device) -> Tensor:
    """Every process's vector, float64 [W, N] on the CPU, rows in the order of ranks."""
    vector_N = vector_N.double().to(device)
    if not _initialised():
        return vector_N[None].cpu()
    parts = [torch.empty_like(vector_N) for _ in range(world_size())]
    torch.distributed.all_gather(parts, vector_N)
    return torch.stack(parts).cpu()


def gradient_sync(trainer: L.Trainer, last: bool) -> AbstractContextManager[None]:
    """Within it a backward pass sums gradients over processes only if it is the `last` of an optimiser step."""
    block = getattr(trainer.strategy, "block_backward_sync", None)
    return nullcontext() if last or block is None else block()


def _initialised() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
