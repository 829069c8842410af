"""A low-rank adapter: attaching it, warm start, scaling, switching it off."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from drift_pl.core.errors import UserError
from drift_pl.policies.stored import StoredNetwork


class LoraAdapter:
    """A low-rank update beside frozen weights (arXiv 2106.09685): the reference costs no memory. See `Adapter`.

    Args:
        network: that `attach_lora` was called on.
        stored: what its frozen weights are read from once it is sharded; None: it has them.
    """

    def __init__(self, network: nn.Module, stored: StoredNetwork | None = None) -> None:
        self._network, self._stored = network, stored
        # found once: to look for them in every module at every switch took 4 ms, 1 % of an iteration with a KL term
        self._layers = [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer)]

    def fill(self) -> None:
        if self._stored is not None:
            self._stored.fill(self._network)

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return trainable_parameters(self._network)

    @contextmanager
    def reference(self) -> Iterator[nn.Module]:
        """Switches the adapter off.

        Switching clears and sets `requires_grad` of the adapter, so enter it before a forward pass that needs a
        gradient, not between that pass and its backward.
        """
        network = self._network
        if any(layer.disable_adapters for layer in self._layers):
            yield network  # already off: it stays off
            return
        self._switch(False)
        try:
            yield network
        finally:
            self._switch(True)

    @contextmanager
    def scaled(self, scale: float) -> Iterator[None]:
        """Multiplies the adapter's output."""
        if scale == 1:
            yield
            return
        network: Any = self._network
        network.set_adapters("default", weights=scale)
        try:
            yield
        finally:
            network.set_adapters("default", weights=1.0)

    def _switch(self, on: bool) -> None:
        for layer in self._layers:
            layer.enable_adapters(enabled=on)


def attach_lora(network: nn.Module, rank: int, alpha: int, targets: Sequence[str], seed: int) -> None:
    """Freezes `network` and adds a LoRA whose initial output is zero (Gaussian A, zero B).

    Args:
        targets: names of linear layers; a layer matches if its path ends in one of them.
        seed: of the Gaussian A; the global random state is left as it was.

    Raises:
        UserError: some targets match nothing (peft itself notices only if none does).
    """
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    unmatched = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in linear)]
    if unmatched:
        known = sorted({".".join(name.split(".")[2:]) for name in linear if name.count(".") > 1})
        raise UserError(
            f"policy.lora.targets: {', '.join(unmatched)} match no layer; the model has e.g. {', '.join(known[:8])}"
        )
    network.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.add_adapter(
            LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=list(targets))
        )


def load_lora(
    network: nn.Module, weights: Mapping[str, Tensor], metadata: Mapping[str, Any] | None, part: str = "transformer"
) -> None:
    """Starts the adapter from trained weights; the reference stays the model without any adapter.

    Args:
        weights: `PART.LAYER.lora_A.weight` [rank, in] and `lora_B` [out, rank], as diffusers stores them.
        metadata: the adapter's config as diffusers stores it (`PART.r`, `PART.lora_alpha`), or None.
        part: the pipeline's name of `network`.

    Raises:
        UserError: rank, alpha or layers are not those of the attached adapter; the message says what to set.
    """
    own = {name.replace(".default.", "."): parameter for name, parameter in trainable_parameters(network)}
    given = {name.removeprefix(f"{part}."): value for name, value in weights.items() if "lora_" in name}
    rank = next((value.shape[0] for name, value in given.items() if "lora_A" in name), 0)
    # Without metadata diffusers takes alpha = rank.
    alpha = (metadata or {}).get(f"{part}.lora_alpha", rank)
    config = network.peft_config["default"]
    if rank and (config.r, config.lora_alpha) != (rank, alpha):
        raise UserError(
            f"policy.lora.pretrained: its rank is {rank} and its alpha {alpha}; "
            f"set policy.lora.rank={rank} policy.lora.alpha={alpha}"
        )
    if own.keys() != given.keys():
        layers = sorted({name.partition(".lora_")[0] for name in own.keys() ^ given.keys()})
        raise UserError(
            f"policy.lora.pretrained: it adapts other layers than policy.lora.targets, e.g. {layers[0]}; "
            "name the layers that it has"
        )
    other = [name for name, parameter in own.items() if given[name].shape != parameter.shape]
    if other:
        theirs, ours = tuple(given[other[0]].shape), tuple(own[other[0]].shape)
        raise UserError(f"policy.lora.pretrained: its {other[0]} is {theirs}, and {ours} here: it is of another model")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(given[name])


def trainable_parameters(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that require a gradient, in the order of the network's definition."""
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            yield name, parameter
