"""Rewards in another precision, or on a device of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drift_pl.core.errors import UserError, named
from drift_pl.scoring.protocol import Reward, move
from drift_pl.scoring.residence import PARKED

DEPTH = 2
"""How far a network may be below the attributes of a reward."""


class Placed:
    """A reward whose networks have another precision, or stay on a device of their own.

    It is called as before, with images of any device. What it answers is brought back by the caller (`calls`).

    Args:
        reward: holds networks, as attributes.
        dtype: of their weights, and of what they compute; None: as it is.
        device: where they are while they score; None: where the others are.
        parks: whether they wait in main memory in between (`policy.offload`).

    Raises:
        UserError: there is no network, or no such device.
    """

    def __init__(self, reward: Reward, dtype: str | None, device: str | None, parks: bool) -> None:
        networks = networks_of(reward)
        if not networks:
            what = f"dtype={dtype}" if dtype else f"device={device}"
            raise UserError(f"{named()}.{what}: this reward holds no network of torch: leave it out")
        self._reward, self._parks = reward, parks
        self._device = None if device is None else usable_device(device)
        if dtype is not None:
            for network in networks:
                in_precision(network, getattr(torch, dtype))

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Any:
        return self._reward(images if self._device is None else images.to(self._device), prompts)

    def __getattr__(self, name: str) -> Any:
        """Whatever else the reward has: `groupwise`, `expect_prompts`."""
        if name == "_reward":  # not there yet
            raise AttributeError(name)
        return getattr(self._reward, name)

    def to(self, device: torch.device | str) -> "Placed":
        waits = self._parks and torch.device(device) == PARKED
        move(self._reward, device if waits or self._device is None else self._device)
        return self


def usable_device(name: str) -> torch.device:
    """The torch device of a name; an accelerator is tried out with an empty tensor, since a name alone proves nothing.

    Raises:
        UserError: this machine has no such device.
    """
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "meta"):
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an unknown name, a build without it, a number that is too high
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise UserError(f"{named()}.device={name}: there is no such device here: use {' or '.join(there)}") from error
    return device


def networks_of(thing: object, depth: int = DEPTH) -> list[nn.Module]:
    """The networks that an object holds, each once."""
    if isinstance(thing, nn.Module):
        return [thing]
    inner = vars(thing).values() if depth and hasattr(thing, "__dict__") and not isinstance(thing, type) else ()
    return list(dict.fromkeys(network for value in inner for network in networks_of(value, depth - 1)))


def in_precision(network: nn.Module, dtype: torch.dtype) -> None:
    """Weights in a precision, and every layer computes in it, whatever it is given.

    What ends up in scores stays in float32: a network's own parameters beside those of its parts (CLIP's scale), and
    those of its parts that are linear layers only (CLIP's projections, the heads of predictors).
    """
    ends = {part for child in network.children() if is_head(child) for part in child.modules()}
    for part in network.modules():
        if part is network and any(True for _ in network.children()):
            continue
        if part in ends:
            part.register_forward_pre_hook(_cast, with_kwargs=True)
            continue
        for store in (part._parameters, part._buffers):
            for name, tensor in store.items():
                if tensor is not None and tensor.is_floating_point():
                    _put(store, name, tensor, dtype)
        if part._parameters:
            part.register_forward_pre_hook(_cast, with_kwargs=True)


def is_head(part: nn.Module) -> bool:
    """Whether it has linear layers, and nothing else that computes."""
    return all(isinstance(each, nn.Linear) for each in part.modules() if not any(True for _ in each.children()))


def _put(store: Mapping[str, Any], name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    if isinstance(tensor, nn.Parameter):
        tensor.data = tensor.data.to(dtype)
    else:
        store[name] = tensor.to(dtype)  # type: ignore[index]


def _cast(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a layer is given, in the precision of its weights."""
    dtype = next((tensor.dtype for tensor in part.parameters(recurse=False) if tensor.is_floating_point()), None)

    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() and dtype else value

    return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}
