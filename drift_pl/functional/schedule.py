"""What changes along a run or along a rollout: windows, warm-up, annealing."""

import torch


def window_steps(first: int, end: int, size: int, generator: torch.Generator) -> tuple[int, ...]:
    """Positions of a contiguous window of `size` steps inside [first, end), its start drawn uniformly.

    The mixed ODE/SDE sampling of Flow-GRPO-Fast and MixGRPO (arXiv 2507.21802): steps inside the window are sampled
    with noise and trained, the others follow the ODE.
    """
    if not 1 <= size <= end - first:
        raise ValueError(f"a window of {size} steps does not fit into [{first}, {end})")
    start = first + int(torch.randint(end - first - size + 1, (1,), generator=generator))
    return tuple(range(start, start + size))


def warmup_factor(iteration: int, warmup: int) -> float:
    """Learning-rate factor in (0, 1]: rises linearly over `warmup` iterations, then stays 1."""
    return 1.0 if warmup == 0 else min(1.0, (iteration + 1) / warmup)


def anneal_factor(iteration: int, length: int) -> float:
    """Factor in [0, 1] that falls linearly from 1 to 0 over `length` iterations; `length` 0 means always 1.

    The length is a key of its own and never the length of the run, so that a run can be extended.
    """
    return 1.0 if length == 0 else max(0.0, 1.0 - iteration / length)
