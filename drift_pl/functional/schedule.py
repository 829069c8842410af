"""Schedules along a run or a rollout: SDE windows, warm-up, annealing, how far an old policy lags."""

import math
from collections.abc import Callable

import torch


def window_steps(first: int, end: int, size: int, generator: torch.Generator) -> tuple[int, ...]:
    """Positions of a contiguous window of `size` steps inside [first, end), its start drawn uniformly.

    The mixed ODE/SDE sampling of Flow-GRPO-Fast and MixGRPO (arXiv 2507.21802): steps inside the window are sampled
    with noise and trained, the others follow the ODE.
    """
    _check_fit(first, end, size)
    start = first + int(torch.randint(end - first - size + 1, (1,), generator=generator))
    return tuple(range(start, start + size))


def random_steps(first: int, end: int, size: int, generator: torch.Generator) -> tuple[int, ...]:
    """Positions of `size` steps inside [first, end), ascending: every subset of this size is equally likely.

    DanceGRPO (arXiv 2505.07818) trains 60 % of the steps of each rollout, Flow-DPPO (arXiv 2606.11025) three of the
    first half.
    """
    _check_fit(first, end, size)
    return tuple(sorted((first + torch.randperm(end - first, generator=generator)[:size]).tolist()))


def moving_window(
    first: int, end: int, size: int, iteration: int, stride: int, stays: Callable[[int], int]
) -> tuple[int, ...]:
    """Positions of a window that slides from high to low noise over the iterations (MixGRPO, arXiv 2507.21802).

    It starts at `first`, stays there for `stays(first)` iterations, moves on by `stride` steps, and so on, and returns
    to `first` when it would no longer fit into [first, end). MixGRPO's code goes on at the end, with windows that the
    range cuts off, down to an empty one, and returns only then and only with its option to roll back. Steps beyond the
    last position here are never trained: choose a stride that divides end - first - size to reach all.

    It depends on the iteration only: all processes train the same steps, and a resumed run continues where it stopped.

    Args:
        first, end: positions in the sampler's grid, 0 <= first < end.
        size: steps in the window, 1 to end - first.
        iteration: number of the iteration, from 0.
        stride: steps, at least 1.
        stays: position of the window's first step -> iterations, at least 1.

    Raises:
        ValueError: the window does not fit, or it would not move.
    """
    _check_fit(first, end, size)
    places = range(first, end - size + 1, max(stride, 1))
    stay_of = {start: stays(start) for start in places}
    if stride < 1 or min(stay_of.values()) < 1:
        raise ValueError(
            f"a window that moves by {stride} steps every {min(stay_of.values())} iterations does not slide"
        )
    start, left = first, iteration % sum(stay_of.values())
    while left >= stay_of[start]:
        left -= stay_of[start]
        start += stride
    return tuple(range(start, start + size))


def linear_stay(start: int, first: int, end: int, most: int, least: int) -> int:
    """Iterations at a place that fall linearly from `most` at `first` towards `least` at `end` (MixGRPO's `decay`)."""
    share = (start - first) / (end - first)
    return max(least, int(most * (1 - share) + least * share))


def exponential_stay(start: int, most: int, rate: float, after: int) -> int:
    """Iterations at a place, ceil(most exp(-rate max(0, start - after))), at least one (MixGRPO's `exp_decay`)."""
    return max(1, math.ceil(most * math.exp(-rate * max(0, start - after))))


def warmup_factor(iteration: int, warmup: int) -> float:
    """Learning-rate factor in (0, 1]: rises linearly over `warmup` iterations, then stays 1."""
    return 1.0 if warmup == 0 else min(1.0, (iteration + 1) / warmup)


def lag_decay(step: int, rate: float, most: float, after: int) -> float:
    """Share of an old policy that is kept after optimizer step `step`: min(rate max(step - after, 0), most).

    DiffusionNFT's schedules (arXiv 2509.16117): rate 0.001, most 0.5, after 0; for OCR rate 0.0075, most 0.999,
    after 75.
    """
    return min(rate * max(step - after, 0), most)


def anneal_factor(iteration: int, length: int) -> float:
    """Factor in [0, 1] that falls linearly from 1 to 0 over `length` iterations; `length` 0 means always 1.

    The length is a separate setting, not the length of the run, so that a run can be extended.
    """
    return 1.0 if length == 0 else max(0.0, 1.0 - iteration / length)


def _check_fit(first: int, end: int, size: int) -> None:
    if not 1 <= size <= end - first:
        raise ValueError(f"a window of {size} steps does not fit into [{first}, {end})")
