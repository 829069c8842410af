"""The processes that train or evaluate together, and what they exchange. A process alone exchanges nothing."""

from typing import NamedTuple

import torch
from torch import Tensor


class Patience(NamedTuple):
    """For how long processes wait for each other, and the setting that says so."""

    setting: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.setting}={self.seconds:g}"


def rank_and_world() -> tuple[int, int]:
    """This process's number, from 0, and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def world_size() -> int:
    return rank_and_world()[1]


def is_first_process() -> bool:
    return rank_and_world()[0] == 0


def gather(part: Tensor) -> Tensor:
    """Every process's tensor, [W, ...], in the order of ranks; all must have the same shape and dtype."""
    if world_size() == 1:
        return part[None]
    parts = [torch.empty_like(part) for _ in range(world_size())]
    torch.distributed.all_gather(parts, part.contiguous())
    return torch.stack(parts)


def gather_vectors(vector_N: Tensor, device: torch.device) -> Tensor:
    """Every process's vector, float64 [W, N] on the CPU, rows in the order of ranks.

    Args:
        device: that the processes exchange on.
    """
    return gather(vector_N.double().to(device)).cpu()


def sum_over_processes(part: Tensor, device: torch.device, everywhere: bool = True) -> Tensor:
    """The sum of every process's tensor, on the CPU.

    Args:
        device: that the processes exchange on.
        everywhere: False: only the first process gets the sum, and the others get anything.
    """
    if world_size() == 1 or not part.numel():
        return part
    total = part.to(device, copy=True)
    if everywhere:
        torch.distributed.all_reduce(total)
    else:
        torch.distributed.reduce(total, dst=0)
    return total.cpu()
