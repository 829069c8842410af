"""Randomness as a function: every generator is made from integers and a purpose, and nothing random is ever stored.

So a resumed run draws what the uninterrupted one would have drawn, and a sample's noise depends neither on the number
of processes nor on the micro-batch it happens to sit in.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def make_generator(purpose: str, *integers: int) -> torch.Generator:
    """A CPU generator that is a function of its arguments only.

    torch seeds its CPU generator with 32 bits: two given calls share a stream with probability 2^-32, so two images of
    a group of 24 do with 6e-8, and somewhere in a run of a hundred thousand images a pair probably does.

    Args:
        purpose: what the numbers are for ("initial_latents", "step_noise", ...); each has streams of its own.
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

    Drawn on the CPU whatever the device, so that a run on an accelerator sees the same noise as one without.
    """
    rows = [torch.randn(tuple(shape), generator=generator) for generator in generators]
    return torch.stack(rows).to(device)
