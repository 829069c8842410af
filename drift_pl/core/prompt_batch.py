"""The prompts of an iteration, and which of its images are this process's. Letters of shapes: see `types`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptBatch:
    """The prompts of one iteration on this process; a pure function of (seed, iteration, rank).

    Attributes:
        seed: of the run.
        iteration: number of the iteration, from 0.
        prompts: P prompts, one per group.
        groups: indices of the groups within the iteration, over all processes.
        group_size: G, images per prompt.
        split: None where this process has the groups' images; else its part of them, see `Split`.

    Example: with prompts ("a circle", "something red") and groups (1, 3) it is the share of the second of two processes
    when four groups are trained in two optimizer steps, groups 0 and 1 in the first.
    """

    seed: int
    iteration: int
    prompts: tuple[str, ...]
    groups: tuple[int, ...]
    group_size: int
    split: "Split | None" = None

    @property
    def key(self) -> tuple[int, int]:
        """(seed, iteration), which with an image's index in `samples` determines all random draws for the image."""
        return self.seed, self.iteration

    @property
    def samples(self) -> list[int]:
        """Index of every image in the iteration, over all processes, in the order of B."""
        if self.split is not None:
            return list(self.split.samples)
        return [group * self.group_size + image for group in self.groups for image in range(self.group_size)]

    @property
    def parts(self) -> list[tuple[int, slice]]:
        """Of each group with images on this process: its place in `prompts`, and its rows of B."""
        place = {group: number for number, group in enumerate(self.groups)}
        found: dict[int, list[int]] = {}
        for row, sample in enumerate(self.samples):
            found.setdefault(place[sample // self.group_size], []).append(row)
        return [(number, slice(rows[0], rows[-1] + 1)) for number, rows in found.items()]

    @property
    def most_images(self) -> int:
        """Images of the process that has most."""
        return len(self.samples) if self.split is None else self.split.most_images

    @property
    def most_groups(self) -> int:
        """Groups with images on the process that has most of those."""
        return len(self.groups) if self.split is None else self.split.most_groups

    @property
    def repeated_prompts(self) -> list[str]:
        """The prompt of every image, B of them."""
        return [self.prompts[number] for number, rows in self.parts for _ in range(rows.start, rows.stop)]


@dataclass(frozen=True)
class Split:
    """A process's part of an iteration whose groups are split over processes; its batch has all the groups.

    Attributes:
        samples: indices of its images in the iteration, ascending.
        most_images: images of the process that has most.
        most_groups: groups with images on the process that has most of those.
    """

    samples: tuple[int, ...]
    most_images: int
    most_groups: int
