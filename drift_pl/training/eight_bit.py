"""AdamW whose moments take one byte each (arXiv 2110.02861), from bitsandbytes, on CUDA devices and CPUs."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from drift_pl.core.errors import UserError, naming
from drift_pl.core.locate import import_extra, refuse_missing_extra

BLOCK, SMALLEST = 256, 4096
"""Numbers that share a scale; tensors with fewer than `SMALLEST` numbers have moments in float32."""
MOMENTS = ("state1", "state2")
SCALES = ("absmax1", "absmax2")
MAPS = ("qmap1", "qmap2")
"""Names of an 8-bit state: codes, largest magnitude of each block, and the 256 values that codes stand for."""
BYTES_PER_MOMENT = 1 + 4 / BLOCK
KEY = "objective.optimizer"


def refuse_optimizer(name: str, device: str) -> None:
    """Checks that an optimizer is there, before anything is loaded.

    Args:
        name: of the setting `objective.optimizer`.
        device: type of the run's device.

    Raises:
        UserError: its package is missing, or it has no kernels for the device.
    """
    if name != "adamw8bit":
        return
    with naming(KEY):
        refuse_missing_extra("bitsandbytes", "quantisation", name)
    if device not in ("cpu", "cuda"):
        raise UserError(
            f"{KEY}={name} is for CUDA devices and CPUs, and this run computes on {device}: use {KEY}=adamw"
        )


def eight_bit_adamw(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> Any:
    """AdamW of bitsandbytes with 8-bit moments, and with a flat state like that of torch's optimizers.

    Raises:
        UserError: bitsandbytes is missing.
    """
    with naming(KEY):
        library = import_extra("bitsandbytes", "quantisation", "adamw8bit")
    return _kind(library.optim.AdamW8bit)(parameters, lr=learning_rate, weight_decay=weight_decay)


@cache
def _kind(library_class: Any) -> Any:
    class AdamW8bit(library_class):
        """Its state is a flat dictionary of tensors, as that of torch's optimizers.

        The library's own puts it one level deeper, to hide it from FSDP's first version.
        """

        def state_dict(self) -> dict[str, Any]:
            return torch.optim.Optimizer.state_dict(self)

    return AdamW8bit


def without_scales(state: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's state without what 8-bit moments have beside them, so that it looks like AdamW's."""
    return {name: value for name, value in state.items() if name not in (*SCALES, *MAPS)}


def spoilt(state: Mapping[str, Any]) -> str:
    """What is wrong with the 8-bit state of a parameter; empty for a good one, and for any other state."""
    for moment, scale, values in zip(MOMENTS, SCALES, MAPS, strict=True):
        codes = state.get(moment)
        if not isinstance(codes, Tensor) or codes.dtype != torch.uint8:
            continue
        for name, length in ((scale, -(-codes.numel() // BLOCK)), (values, 256)):
            found = state.get(name)
            if not isinstance(found, Tensor) or found.shape != (length,) or found.dtype != torch.float32:
                return f"a parameter whose {name} is not {length} numbers of float32"
    return ""
