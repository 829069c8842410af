"""Prompts of each iteration. The whole state is one integer: the number of completed iterations."""

from collections.abc import Iterator, Sequence

import lightning as L
import torch

from drift_pl.core.types import PromptBatch
from drift_pl.sampling.prompts import prompts_of_iteration


class PromptStream:
    """The rest of an epoch of iterations, as a plain sized iterable: a pure function of the data module's integer.

    Sized, because Lightning reads one batch ahead of an unsized loader and loses it on resume; not a torch DataLoader,
    because there is nothing to load and nothing that may be sharded a second time.
    """

    def __init__(self, source: "PromptDataModule") -> None:
        self._source = source

    def __len__(self) -> int:
        return self._source.iterations_per_epoch

    def __iter__(self) -> Iterator[PromptBatch]:
        first, length = self._source.iteration, len(self)
        for iteration in range(first, (first // length + 1) * length):
            yield self._source.batch(iteration)


def groups_of_rank(per_iteration: int, updates: int, rank: int, world: int) -> list[int]:
    """Numbers of a process's groups: its part of each optimizer step's share, so that every step sees the same groups
    however many processes there are.

    Example: 8 groups, 2 steps, 2 processes: rank 0 has 0, 1, 4, 5 and rank 1 has 2, 3, 6, 7.
    """
    share = per_iteration // updates
    part = share // world
    return [step * share + rank * part + place for step in range(updates) for place in range(part)]


class PromptDataModule(L.LightningDataModule):
    """Prompts of each iteration, shared out between processes; a group never leaves its process.

    Args:
        prompts: the training prompts.
        per_iteration: groups per iteration over all processes; a multiple of their number times `updates`.
        group_size: images per prompt.
        updates: optimizer steps per pass over an iteration's groups.
        seed: of the run.
        iterations_per_epoch: how many iterations Lightning calls an epoch (the interval between checkpoints).
    """

    def __init__(
        self,
        prompts: Sequence[str],
        per_iteration: int,
        group_size: int,
        updates: int,
        seed: int,
        iterations_per_epoch: int,
    ) -> None:
        super().__init__()
        self.prompts = tuple(prompts)
        self.per_iteration = per_iteration
        self.group_size = group_size
        self.updates = updates
        self.seed = seed
        self.iterations_per_epoch = iterations_per_epoch
        self.iteration = 0

    def train_dataloader(self) -> PromptStream:
        return PromptStream(self)

    def batch(self, iteration: int) -> PromptBatch:
        """This process's share of an iteration: a pure function of (seed, iteration, rank)."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        order = prompts_of_iteration(len(self.prompts), self.per_iteration, iteration, self.seed)
        groups = groups_of_rank(self.per_iteration, self.updates, rank, world)
        prompts = tuple(self.prompts[order[group]] for group in groups)
        return PromptBatch(self.seed, iteration, prompts, tuple(groups), self.group_size)

    def transfer_batch_to_device(self, batch: PromptBatch, device: torch.device, dataloader_idx: int) -> PromptBatch:
        """Text needs no device (and Lightning refuses to move a frozen dataclass)."""
        return batch

    def state_dict(self) -> dict[str, int]:
        return {"iteration": self.iteration}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.iteration = state_dict["iteration"]
