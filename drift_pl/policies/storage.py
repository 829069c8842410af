"""Frozen weights of linear layers in one byte each (float8_e4m3fn), which each product widens for itself.

Diffusers' `enable_layerwise_casting` is for inference: the backward pass of a layer would keep its widened weights, and
that of a convolution finds them narrow. Here the backward pass widens them again. Which layers are left as they are is
diffusers' own choice for the model: normalisation, embeddings, and what else loses by it.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch
from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN
from torch import Tensor, nn
from torch.nn import functional

from drift_pl.core.errors import UserError

STORED = torch.float8_e4m3fn
LARGEST = torch.finfo(STORED).max
"""448: a weight beyond it would become NaN."""
ADAPTER = "lora_"
"""In the names of an adapter's layers."""


class _Product(torch.autograd.Function):
    """x W^T + b of a weight that is widened for the product alone, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x_BI: Tensor, stored_OI: Tensor, bias_O: Tensor | None, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(stored_OI)
        return functional.linear(x_BI.to(dtype), stored_OI.to(dtype), bias_O)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (stored_OI,) = ctx.saved_tensors
        return gradients[0] @ stored_OI.to(gradients[0].dtype), None, None, None


class NarrowLinear(nn.Linear):
    """A frozen linear layer whose weight is stored in `STORED`; it computes in the dtype that the weight had."""

    compute_dtype: torch.dtype

    def forward(self, input: Tensor) -> Tensor:
        return _Product.apply(input, self.weight, self.bias, self.compute_dtype)


def narrow(network: nn.Module, blocks: Iterable[nn.Module]) -> None:
    """Stores the linear layers of a network's blocks in one byte per weight, in place; an adapter stays as it is.

    Raises:
        UserError: a weight is beyond float8's range, or no layer is of the kind.
    """
    kept = (*DEFAULT_SKIP_MODULES_PATTERN, *(getattr(network, "_skip_layerwise_casting_patterns", None) or ()), ADAPTER)
    inside = {id(layer) for block in blocks for layer in block.modules() if type(layer) is nn.Linear}
    layers = [
        (name, layer)
        for name, layer in network.named_modules()
        if id(layer) in inside and not any(re.search(pattern, name) for pattern in kept)
    ]
    if not layers:
        raise UserError(f"policy.storage=fp8: {type(network).__name__} has no linear layer to store: use null")
    for name, layer in layers:
        weight_OI = layer.weight.detach()
        if not weight_OI.is_meta and float(weight_OI.abs().max()) > LARGEST:
            raise UserError(
                f"policy.storage=fp8: a weight of {name} is beyond float8's range, +-{LARGEST:g}: use "
                "policy.dtype=bfloat16 policy.storage=null"
            )
        layer.weight = nn.Parameter(weight_OI.to(STORED), requires_grad=False)
        layer.__class__ = NarrowLinear
        layer.compute_dtype = weight_OI.dtype
