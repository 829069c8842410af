"""What trains of a network, and how the network before training is had back: a protocol, and its LoRA form."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from torch import nn

from drift_pl.policies.lora import lora_scaled, lora_switched_off, trainable_parameters


class Adapter(Protocol):
    """The trained part of a network, whose other parameters are frozen."""

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that train, in a fixed order."""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Within it the network computes what it did before training, bit for bit. It nests."""
        ...

    def scaled(self, scale: float) -> AbstractContextManager[None]:
        """Within it what was learnt counts `scale` times: 0 is the reference, 1 the network as it is."""
        ...


class LoraAdapter:
    """A low-rank update beside frozen weights (arXiv 2106.09685): the reference costs no memory.

    Args:
        network: that `attach_lora` was called on.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return trainable_parameters(self._network)

    def reference(self) -> AbstractContextManager[None]:
        return lora_switched_off(self._network)

    def scaled(self, scale: float) -> AbstractContextManager[None]:
        """Multiplies the update's output."""
        return nullcontext() if scale == 1 else lora_scaled(self._network, scale)
