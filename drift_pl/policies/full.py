"""Full fine-tuning: every weight of the network trains, and the reference is a frozen copy of what was loaded."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from drift_pl.core.errors import UserError
from drift_pl.policies.lora import trainable_parameters


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
        # torch counts the in-place changes of every tensor; moving a network to a device does not count
        self._versions: list[int] | None = [parameter._version for parameter in network.parameters()]

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return trainable_parameters(self._network)

    @contextmanager
    def reference(self) -> Iterator[None]:
        if self._untouched():
            yield
            return
        original = self._originals()
        with self._holding(lambda name, tuned: original[name].to(tuned.device)):
            yield

    @contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """Weights on the line through both models, reference + scale (tuned - reference), in a separate copy."""
        if scale == 1 or self._untouched():
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

    def _untouched(self) -> bool:
        """True until a weight changes; then False for good."""
        if self._versions is not None:
            if self._versions == [parameter._version for parameter in self._network.parameters()]:
                return True
            self._versions = None
        return False

    def _originals(self) -> dict[str, Tensor]:
        """The copy; read on first use."""
        if self._original is None:
            loaded = self._load_original()
            self._original = {
                name: loaded[name].detach().to("cpu" if self._on_cpu else parameter.device, parameter.dtype)
                for name, parameter in self._network.named_parameters()
            }
        return self._original
