"""Full fine-tuning: every weight of the network trains, and the reference is a frozen copy of what was loaded."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from drift_pl.core.errors import UserError
from drift_pl.policies.lora import trainable_parameters
from drift_pl.policies.sharding import shard_like
from drift_pl.policies.stored import StoredNetwork


class Changes:
    """Whether the weights of a network have changed since this was made.

    torch counts the in-place changes of every tensor; moving a network to a device does not count.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._versions: list[int] | None = [parameter._version for parameter in network.parameters()]

    def none(self) -> bool:
        """True until a weight changes; then False for good."""
        if self._versions is not None:
            if self._versions == [parameter._version for parameter in self._network.parameters()]:
                return True
            self._versions = None
        return False


class FullTuning:
    """All parameters of a network train, in float32. See `Adapter`.

    Float32 whatever the weights were stored in: a step of 1e-5 of a weight is lost in bfloat16, whose spacing is 4e-3
    of it. Mixed precision computes in bfloat16 from these weights.

    The reference is loaded from the original source when it is first needed after the weights have changed: it costs
    nothing in a run without a KL term, and a resumed run has the same one. It is not in any module tree; `reference`
    swaps its tensors in.

    Args:
        network: the denoiser.
        load_original: the weights as they were loaded, by parameter name.
        reference_device: `device`: the copy lives beside the network. `cpu`: in main memory; it is copied over for each
            use, and needs room on the accelerator only then, when no activations are stored.

    Raises:
        UserError: the network is quantised.
    """

    def __init__(
        self, network: nn.Module, load_original: Callable[[], Mapping[str, Tensor]], reference_device: str = "device"
    ) -> None:
        if getattr(network, "is_quantized", False):
            raise UserError("policy.tuning=full: quantised weights do not train: use policy.tuning=lora")
        network.requires_grad_(True).float()
        self._network, self._load_original, self._on_cpu = network, load_original, reference_device == "cpu"
        self._original: dict[str, Tensor] | None = None
        self._changes = Changes(network)

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return trainable_parameters(self._network)

    def fill(self) -> None:
        """It has its weights."""

    @contextmanager
    def reference(self) -> Iterator[nn.Module]:
        if self._changes.none():
            yield self._network
            return
        original = self._originals()
        with self._holding(lambda name, tuned: original[name].to(tuned.device)):
            yield self._network

    @contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """Weights on the line through both models, reference + scale (tuned - reference), in a separate copy."""
        if scale == 1 or self._changes.none():
            yield
            return
        original = self._originals()
        with self._holding(lambda name, tuned: torch.lerp(original[name].to(tuned.device), tuned, scale)):
            yield

    @contextmanager
    def _holding(self, value: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
        """Within it every parameter's data is `value(name, data)`; afterwards the original tensors again."""
        held: list[tuple[nn.Parameter, Tensor]] = []
        try:
            for name, parameter in self._network.named_parameters():
                held.append((parameter, parameter.data))
                parameter.data = value(name, parameter.data)
            yield
        finally:
            for parameter, data in held:
                parameter.data = data

    def _originals(self) -> dict[str, Tensor]:
        """The copy; read on first use."""
        if self._original is None:
            loaded = self._load_original()
            self._original = {
                name: loaded[name].detach().to("cpu" if self._on_cpu else parameter.device, parameter.dtype)
                for name, parameter in self._network.named_parameters()
            }
        return self._original


class ShardedFullTuning:
    """All parameters of a sharded network train, in float32. See `Adapter`, and `FullTuning` for the dtype.

    The reference is a network of its own, sharded in the same way: a sharded network gathers its weights from the
    parts that it was made with, and would not notice tensors that were put in their places. It is read when it is
    first needed after the weights have changed, by all processes together.

    Args:
        network: the denoiser, without weights.
        stored: what its weights, and the reference, are read from.
    """

    def __init__(self, network: nn.Module, stored: StoredNetwork) -> None:
        self._network, self._stored = network.requires_grad_(True).float(), stored
        self._changes: Changes | None = None
        self._original: nn.Module | None = None

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return trainable_parameters(self._network)

    def fill(self) -> None:
        self._stored.fill(self._network)
        self._changes = Changes(self._network)

    @contextmanager
    def reference(self) -> Iterator[nn.Module]:
        yield self._network if self._untouched() else self._reference()

    @contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """Weights on the line through both models, reference + scale (tuned - reference), in place."""
        if scale == 1 or self._untouched():
            yield
            return
        originals = dict(self._reference().named_parameters())
        tuned = {name: parameter.detach().clone() for name, parameter in self._network.named_parameters()}
        self._write({name: torch.lerp(originals[name], value, scale) for name, value in tuned.items()})
        try:
            yield
        finally:
            self._write(tuned)

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._network.named_parameters():
            parameter.copy_(values[name])

    def _untouched(self) -> bool:
        return self._changes is not None and self._changes.none()

    def _reference(self) -> nn.Module:
        """The frozen network; read on first use."""
        if self._original is None:
            original = self._stored.skeleton().float().requires_grad_(False).eval()
            shard_like(original, self._network)
            self._stored.fill(original)
            self._original = original
        return self._original
