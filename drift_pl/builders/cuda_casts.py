"""Which operations CUDA's autocast computes in float32, for passes that are counted on the CPU.

The CPU's autocast leaves normalisation and interpolation in half precision; CUDA's gives them float32 copies of their
inputs, which the backward pass keeps, and float32 outputs: a fifth of what a UNet's update takes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.library import Library
from torch.utils._pytree import tree_map

FLOAT32 = (
    *("layer_norm", "group_norm", "rms_norm", "upsample_nearest2d", "upsample_bilinear2d", "softplus"),
    *("pow.Tensor_Scalar", "rsqrt", "reciprocal", "exp", "log", "mse_loss"),
)
"""Of `AT_FORALL_FP32` in ATen/autocast_mode.h: those that denoisers, encoders and losses use."""
KEY = "AutocastCPU"


@contextmanager
def cuda_casts() -> Iterator[None]:
    """Within it the CPU's autocast gives the operations of `FLOAT32` their inputs in float32, as CUDA's does."""
    library = Library("aten", "IMPL")
    try:
        for name in FLOAT32:
            packet, _, overload = name.partition(".")
            operation = getattr(getattr(torch.ops.aten, packet), overload or "default")
            library.impl(name, partial(_in_float32, operation), KEY)
        yield
    finally:
        library._destroy()


def _in_float32(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    args, kwargs = tree_map(_widened, (args, kwargs))
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, KEY))):
        return operation(*args, **kwargs)


def _widened(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
