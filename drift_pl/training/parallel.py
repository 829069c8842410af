"""Communication between processes: small vectors before and after an update, gradients once per optimizer step."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.processes import gather_vectors
from drift_pl.functional.advantage import counted, global_std, masked_std, reward_moments


@dataclass(frozen=True)
class IterationStatistics:
    """Statistics over all processes, before the update.

    Attributes:
        batch_std: standard deviation of the iteration's rewards, 0-dimensional.
        median_group_std: median over groups of the rewards' standard deviation.
        counts_U: images that count in each optimizer step of a pass, float64 on the CPU.
    """

    batch_std: Tensor
    median_group_std: float
    counts_U: Tensor


def gather_statistics(reward_PG: Tensor, kept_PG: Tensor, updates: int, device: torch.device) -> IterationStatistics:
    """All-gather of reward moments, group spreads and counts: the last exchange before the update.

    Args:
        updates: U, optimizer steps per pass.
    """
    counts_U = torch.stack([part.sum() for part in counted(kept_PG).chunk(updates)]).double().cpu()
    std_P = masked_std(reward_PG, reward_PG.isfinite()).flatten().double().cpu()
    gathered = gather_vectors(torch.cat([reward_moments(reward_PG), counts_U, std_P]), device)
    end = 3 + updates
    return IterationStatistics(
        batch_std=global_std(gathered[:, :3].sum(0)).to(device),
        median_group_std=float(gathered[:, end:].flatten().quantile(0.5)),
        counts_U=gathered[:, 3:end].sum(0),
    )


def gradient_sync(trainer: L.Trainer, last: bool) -> AbstractContextManager[None]:
    """Within it a backward pass sums gradients over processes only if it is the `last` of an optimizer step."""
    block = getattr(trainer.strategy, "block_backward_sync", None)
    return nullcontext() if last or block is None else block()
