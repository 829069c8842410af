"""The trained adapter: attaching it, switching it off, naming its parameters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig
from torch import nn

from drift_pl.errors import UserError


def attach_lora(network: nn.Module, rank: int, alpha: int, targets: Sequence[str], seed: int) -> None:
    """Freezes `network` and adds a LoRA whose initial output is zero (Gaussian A, zero B).

    Args:
        targets: names of linear layers; a layer matches if its path ends in one of them.
        seed: of the Gaussian A; the global random state is left as it was.

    Raises:
        UserError: some targets match nothing (peft itself notices only if none does).
    """
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    unmatched = [target for target in targets if not any(_matches(name, target) for name in linear)]
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


@contextmanager
def lora_switched_off(network: nn.Module) -> Iterator[None]:
    """Within it the network computes what it did before the adapter was added, bit for bit.

    Switching clears and sets `requires_grad` of the adapter, so enter it before a forward pass that needs a gradient,
    not between that pass and its backward.
    """
    network.disable_adapters()
    try:
        yield
    finally:
        network.enable_adapters()


def trainable_parameters(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that require a gradient, in the order of the network's definition."""
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            yield name, parameter


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)
