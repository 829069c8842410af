"""Networks sharded over processes by FSDP2: a process holds its rows of every weight, and they meet in a forward pass.

A pass through a sharded network is made by all processes together. One that made fewer passes than the others would
leave them waiting for ever: see `common_passes`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor


def shard(network: nn.Module, blocks: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Splits every weight of a network by rows over the processes of a mesh, in place.

    Each block's weights are gathered for its forward and its backward pass and freed after it; the rest of the network
    is one more block. It too is freed after its pass, unlike FSDP's own default: weights that were changed between two
    passes (the average, a checkpoint) would not be seen by the next one otherwise.

    Args:
        network: on the CPU, or without weights on the meta device.
        blocks: parts of it that run one after the other.
    """
    for part in (*blocks, network):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def shard_like(twin: nn.Module, network: nn.Module) -> None:
    """Shards another network of the same class over the same processes, block by block like `network`."""
    mesh = next(value.device_mesh for value in network.parameters() if isinstance(value, DTensor))
    names = [name for name, part in network.named_modules() if name and isinstance(part, FSDPModule)]
    shard(twin, [twin.get_submodule(name) for name in names], mesh)


def is_sharded(network: nn.Module) -> bool:
    return isinstance(network, FSDPModule)


def settle(network: nn.Module) -> None:
    """After an error within a pass: its gathered weights are freed, so that the parameters are the sharded ones."""
    if isinstance(network, FSDPModule):
        network.reset_iter_state()


def common_passes(network: nn.Module, count: int, device: torch.device) -> int:
    """The number of passes that every process makes where this one needs `count`: the largest, if it is sharded."""
    if not is_sharded(network):
        return count
    largest = torch.tensor(count, device=device)
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return int(largest)


def whole(value: Tensor) -> Tensor:
    """A sharded tensor, gathered: called by all processes together. Any other tensor is itself."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def collected(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Sharded tensors among `values` whole and on the CPU, in the first process; the other processes have none of them.

    Called by all processes together. One tensor after the other is gathered, so that a device needs room for one only.
    """
    kept, first = {}, torch.distributed.is_initialized() and torch.distributed.get_rank() == 0
    for name, value in values.items():
        if isinstance(value, DTensor):
            gathered = value.full_tensor()
            if first:
                kept[name] = gathered.cpu()
        else:
            kept[name] = value
    return kept


def laid_out_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's rows of a whole tensor, if `like` is sharded; else the tensor itself. Nothing is exchanged."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    first, end = own_rows(like)
    return as_shard(value[first:end].to(like.device, like.dtype, copy=True), like)


def own_rows(like: DTensor) -> tuple[int, int]:
    """[first, end) of the rows of a sharded tensor that this process holds: equal parts but for the last ones."""
    part = -(-like.shape[0] // like.device_mesh.size())
    first = min(part * like.device_mesh.get_local_rank(), like.shape[0])
    return first, min(first + part, like.shape[0])


def as_shard(rows: Tensor, like: DTensor) -> DTensor:
    """This process's rows as a tensor that is sharded like another one."""
    return DTensor.from_local(
        rows.contiguous(), like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
