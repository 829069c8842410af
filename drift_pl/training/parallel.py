"""Communication between processes: small vectors before and after an update, gradients once per optimizer step."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.processes import gather_vectors
from drift_pl.core.types import Scores, Tasks
from drift_pl.functional.advantage import counted, global_std, masked_mean, masked_std, reward_moments
from drift_pl.functional.diversity import distance_to_others


@dataclass(frozen=True)
class IterationStatistics:
    """Statistics over all processes, before the update.

    Attributes:
        batch_std: standard deviation of the iteration's rewards, 0-dimensional; or, where prompts name their rewards,
            of the rewards of each group's task, [P, 1] (rewards of other tasks have other units).
        median_group_std: median over groups of the rewards' standard deviation, float64, 0-dimensional; or [X], one
            for each of several tasks, NaN for a task without a group.
        counts_U: images that count in each optimizer step of a pass, float64 on the CPU.
        scored_N: `Scores.counts_N` of all processes together.
        diversity: mean over groups of the mean cosine distance of their scored images, by the shaping encoder; NaN
            without embeddings, or where no group has two such images.
    """

    batch_std: Tensor
    median_group_std: Tensor
    counts_U: Tensor
    scored_N: Tensor
    diversity: float


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
    finite_PG = reward_PG.isfinite()
    std_P = masked_std(reward_PG, finite_PG).flatten().double()
    # one image alone has no spread: it is left out of the median, not counted as 0
    std_P = torch.where(finite_PG.sum(1) >= 2, std_P, torch.nan).cpu()
    number, task_P = (1, None) if scores.tasks is None else (len(scores.tasks.asked_XR), scores.tasks.task_P)
    of_task = [reward_PG if task_P is None else reward_PG[task_P == task] for task in range(number)]
    moments = torch.cat([reward_moments(part_PG) for part_PG in of_task])
    which_P = torch.zeros_like(std_P) if task_P is None else task_P.double().cpu()
    parts = [moments, counts_U, scores.counts_N, _diversity_moments(scores), std_P, which_P]
    vector_N = torch.cat(parts)
    gathered_WN = vector_N[None] if scores.of_all else gather_vectors(vector_N, device)
    gathered = gathered_WN.split([len(part) for part in parts], dim=1)
    moments, counts_U, scored_N, diversity_N = (part.sum(0) for part in gathered[:4])
    std_P, which_P = gathered[4].flatten(), gathered[5].flatten()
    medians = [torch.where(which_P == task, std_P, torch.nan).nanquantile(0.5) for task in range(number)]
    batch_std_X = torch.stack([global_std(part) for part in moments.chunk(number)]).to(device)
    return IterationStatistics(
        batch_std=batch_std_X[0] if number == 1 else of_groups(batch_std_X, scores.tasks),
        median_group_std=medians[0] if number == 1 else torch.stack(medians),
        counts_U=counts_U,
        scored_N=scored_N,
        diversity=float(diversity_N[0] / diversity_N[1]) if len(diversity_N) else math.nan,
    )


def of_groups(value_X: Tensor, tasks: Tasks | None) -> Tensor:
    """Of each group's task, [P, 1], from a number per task; of all, 0-dimensional, as it is."""
    return value_X if tasks is None or not value_X.ndim else value_X[tasks.task_P.to(value_X.device)][:, None]


def _diversity_moments(scores: Scores) -> Tensor:
    """Sum of the groups' mean pairwise distances, and number of groups that have one, float64 [2]; or empty."""
    if scores.embedding_PGD is None:
        return torch.empty(0).double()
    valid_PG = scores.valid_PG
    measured_P = valid_PG.sum(1) >= 2
    distance_P = masked_mean(distance_to_others(scores.embedding_PGD, valid_PG), valid_PG)[:, 0]
    return torch.stack([distance_P[measured_P].double().sum(), measured_P.sum().double()]).cpu()


def gradient_sync(trainer: L.Trainer, last: bool) -> AbstractContextManager[None]:
    """Within it a backward pass sums gradients over processes only if it is the `last` of an optimizer step."""
    block = getattr(trainer.strategy, "block_backward_sync", None)
    return nullcontext() if last or block is None else block()
