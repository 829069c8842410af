"""Randomness as a function: every generator is derived from integers and a purpose, and no random state is stored.

A resumed run therefore draws the same numbers as an uninterrupted one, and a sample's noise depends neither on the
number of processes nor on its micro-batch.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def make_generator(purpose: str, *integers: int) -> torch.Generator:
    """CPU generator that is a function of its arguments only.

    torch seeds its CPU generator with 32 bits, so two calls share a stream with probability 2^-32: some pair in a group
    of 24 images with probability 6e-8, and some pair in a run of a hundred thousand images more likely than not.

    Args:
        purpose: what the numbers are for ("initial_latents", "step_noise", ...); each purpose has separate streams.
        *integers: any integers, typically (seed, iteration, global sample index).
    """
    # Python's own hash() changes from process to process; SHA-256 of the text does not.
    text = ":".join([purpose, *(str(int(value)) for value in integers)])
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def sample_generators(purpose: str, *integers: int, samples: Sequence[int]) -> list[torch.Generator]:
    """One generator per image: `make_generator(purpose, *integers, sample)` for each sample index."""
    return [make_generator(purpose, *integers, sample) for sample in samples]


def normal_per_sample(
    generators: Sequence[torch.Generator], shape: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal noise, float32 [B, *shape], row b drawn from `generators[b]` alone.

    Drawn on the CPU, so that the noise is the same on every device.
    """
    rows = [torch.randn(tuple(shape), generator=generator) for generator in generators]
    return to_device(torch.stack(rows), device)


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU on a device, without waiting for what the device is doing: loops must never wait for it."""
    if torch.device(device).type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
