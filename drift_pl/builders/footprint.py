"""Memory and FLOPs of passes through networks that have shapes and no weights.

Every tensor of a pass is made as a `FakeTensor`, which knows shape, dtype and lifetime; `LiveBytes` adds up what is
alive after every operation. The passes are the policy's own, under the casts that the precision has on CUDA devices, so
that copies of weights, recomputed activations and the two branches of guidance count as they are.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from drift_pl.builders.cuda_casts import cuda_casts

aten = torch.ops.aten
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Lightning's precisions that cast -> to what."""
FLOPS: Mapping[Any, Callable[..., Any]] = {
    **flop_registry,
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: attention(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: 2.5 * attention(q, k, v),
}
"""Operation -> its FLOPs; torch does not know the CPU's attention, whose backward pass has five products for two."""


def attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


class Pass(NamedTuple):
    """What a pass takes besides what was there before.

    Attributes:
        peak: bytes at its highest.
        kept: bytes that are still there after it.
        flops: products of matrices, convolutions and attention, a multiplication and an addition as two.
    """

    peak: int
    kept: int
    flops: float


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that are made within it, while they live, and the FLOPs of its operations.

    (torch's `FlopCounterMode` keeps the inputs of every module alive, and so hides what checkpointing saves.)

    Args:
        known: networks whose weights were there before.

    Attributes:
        now, peak: bytes that are alive, and were at most.
        flops: so far.
    """

    def __init__(self, *known: nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.flops = 0.0
        tensors = (each for network in known for each in (*network.parameters(), *network.buffers()))
        self._live = {each.untyped_storage()._cdata: 0 for each in tensors}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = FLOPS.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self._see(each.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._live:
            return
        self._live[key] = size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._live.pop(key, 0)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Within it tensors and networks are made without memory."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def measure(work: Callable[[], object], precision: str, *networks: nn.Module) -> Pass:
    """Of what `work` computes, within `shapes_only`; what it returns is alive at the end.

    Args:
        precision: Lightning's name.
        networks: whose weights are not counted.
    """
    dtype = AUTOCAST.get(precision)
    cast = torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False)
    with LiveBytes(*networks) as live, cast, cuda_casts():
        result = work()
    found = Pass(live.peak, live.now, live.flops)
    del result
    return found


def give_shapes(network: nn.Module) -> None:
    """Within `shapes_only`: puts tensors that count in place of a network's own, of the meta device.

    Also in place of tensors that are neither parameters nor buffers, such as Qwen-Image's positions.
    """
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                twin = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(twin, parameter.requires_grad)
        for store in (module._buffers, vars(module)):
            for name, tensor in store.items():
                if isinstance(tensor, Tensor):
                    store[name] = torch.empty(tensor.shape, dtype=tensor.dtype)


def bytes_of(network: nn.Module) -> int:
    """Of weights and buffers."""
    return sum(each.numel() * each.element_size() for each in (*network.parameters(), *network.buffers()))
