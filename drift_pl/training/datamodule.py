"""Prompts of each iteration, and which process has which images of their groups.

The whole state is one integer: the number of completed iterations. Each process has an equal part of the images of
every optimizer step. If that makes whole groups, its batch has these groups, and everything about a group is known
where it is. Otherwise groups are split: every batch has all groups of the iteration and its own part of the images,
and what the method needs of the others' is gathered (`training/scoring.py`).
"""

from collections.abc import Iterator, Sequence

import lightning as L
import torch

from drift_pl.core.prompt_batch import PromptBatch, Split
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


def part_of_rank(images: int, rank: int, world: int) -> range:
    """A process's part of the images of one optimizer step: a contiguous run, as long as the others' or one longer."""
    return range(rank * images // world, (rank + 1) * images // world)


def samples_of_rank(per_iteration: int, group_size: int, updates: int, rank: int, world: int) -> list[int]:
    """Indices of a process's images: its part of each optimizer step's, so that every step sees the same groups
    however many processes there are.

    Example: 8 groups of 2 images, 2 steps, 2 processes: rank 0 has 0 to 3 and 8 to 11, which are groups 0, 1, 4 and 5.
    On 8 processes each has one image of each step: rank 3 has image 3 of group 1, and image 11 of group 5.
    """
    images = per_iteration * group_size // updates
    return [step * images + place for step in range(updates) for place in part_of_rank(images, rank, world)]


def are_split(per_iteration: int, updates: int, world: int) -> bool:
    """Whether some groups have images on several processes."""
    return per_iteration // updates % world != 0


class PromptDataModule(L.LightningDataModule):
    """Prompts of each iteration, shared out between processes.

    Args:
        prompts: the training prompts.
        per_iteration: groups per iteration over all processes; a multiple of `updates`.
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
        split = self._split(rank, world) if are_split(self.per_iteration, self.updates, world) else None
        images = range(self.per_iteration * self.group_size) if split else self._samples(rank, world)
        groups = sorted({image // self.group_size for image in images})
        prompts = tuple(self.prompts[order[group]] for group in groups)
        return PromptBatch(self.seed, iteration, prompts, tuple(groups), self.group_size, split)

    def _samples(self, rank: int, world: int) -> list[int]:
        return samples_of_rank(self.per_iteration, self.group_size, self.updates, rank, world)

    def _split(self, rank: int, world: int) -> Split:
        shares = [self._samples(other, world) for other in range(world)]
        groups = [{sample // self.group_size for sample in share} for share in shares]
        return Split(tuple(shares[rank]), max(map(len, shares)), max(map(len, groups)))

    def transfer_batch_to_device(self, batch: PromptBatch, device: torch.device, dataloader_idx: int) -> PromptBatch:
        """Text needs no device (and Lightning refuses to move a frozen dataclass)."""
        return batch

    def state_dict(self) -> dict[str, int]:
        return {"iteration": self.iteration}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.iteration = state_dict["iteration"]
