"""Communication between processes: small vectors before and after an update, gradients once per optimizer step."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.processes import gather_vectors
from drift_pl.core.types import Scores
from drift_pl.functional.advantage import counted, global_std, masked_std, reward_moments


@dataclass(frozen=True)
class IterationStatistics:
    """Statistics over all processes, before the update.

    Attributes:
        batch_std: standard deviation of the iteration's rewards, 0-dimensional.
        median_group_std: median over groups of the rewards' standard deviation.
        counts_U: images that count in each optimizer step of a pass, float64 on the CPU.
        scored_N: `Scores.counts_N` of all processes together.
    """

    batch_std: Tensor
    median_group_std: float
    counts_U: Tensor
    scored_N: Tensor


def gather_statistics(
    scores: Scores, reward_PG: Tensor, kept_PG: Tensor, updates: int, device: torch.device
) -> IterationStatistics:
    """Exchange of counts, reward moments and group spreads: the only one before the update.

    Where groups are split, every process knows all of them, and nothing is left to exchange.

    Args:
        reward_PG: effective rewards.
        updates: U, optimizer steps per pass.
    """
    assert scores.counts_N is not None
    counts_U = torch.stack([part.sum() for part in counted(kept_PG).chunk(updates)]).double().cpu()
    std_P = masked_std(reward_PG, reward_PG.isfinite()).flatten().double().cpu()
    parts = [reward_moments(reward_PG), counts_U, scores.counts_N, std_P]
    vector_N = torch.cat(parts)
    gathered_WN = vector_N[None] if scores.of_all else gather_vectors(vector_N, device)
    gathered = gathered_WN.split([len(part) for part in parts], dim=1)
    moments, counts_U, scored_N = (part.sum(0) for part in gathered[:3])
    return IterationStatistics(
        batch_std=global_std(moments).to(device),
        median_group_std=float(gathered[3].flatten().quantile(0.5)),
        counts_U=counts_U,
        scored_N=scored_N,
    )


def gradient_sync(trainer: L.Trainer, last: bool) -> AbstractContextManager[None]:
    """Within it a backward pass sums gradients over processes only if it is the `last` of an optimizer step."""
    block = getattr(trainer.strategy, "block_backward_sync", None)
    return nullcontext() if last or block is None else block()
