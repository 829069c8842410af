"""What was measured of a model, and how the processes that measured it bring their prompts together."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.processes import sum_over_processes
from drift_pl.evaluation.partial import Row


@dataclass(frozen=True)
class Evaluated:
    """Values per prompt, and some of the images.

    Attributes:
        prompts: P prompts, in the order of the values.
        values: name -> float64 [P]; NaN where a prompt has no such value.
        grid_PS3HW: the first seeds of the first prompts, in [0, 1], on the CPU; the first process has them.
        embedding_PSD: unit embeddings of all images by the evaluation encoder, float32, on the CPU; None unless drift
            is measured.
        overall: name -> value over the images of all prompts together.
    """

    prompts: tuple[str, ...]
    values: dict[str, Tensor]
    grid_PS3HW: Tensor
    embedding_PSD: Tensor | None = None
    overall: dict[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Means over the prompts that have a value, and the overall values."""
        return {name: float(value_P.nanmean()) for name, value_P in self.values.items()} | self.overall


class PromptRows:
    """The rows of P prompts. Each process adds those of its own; the others' are zero until they are summed.

    Args:
        num_prompts: P.
        pictured: number of prompts, the first ones, whose images are kept.
        embedded: number of prompts, the first ones, whose embeddings are kept.

    Attributes:
        names: of the values, in the order of the first row; empty before it.
    """

    def __init__(self, num_prompts: int, pictured: int, embedded: int) -> None:
        self._sizes = (num_prompts, min(pictured, num_prompts), embedded)
        self._parts: list[Tensor] = []
        self.names: list[str] = []

    def kept(self, number: int) -> list[bool]:
        """Of a prompt's row: whether its number of NaN images, its images and its embeddings are kept."""
        return [number < size for size in self._sizes]

    def add(self, number: int, row: Row) -> None:
        """Adds a prompt's row; of a number from P on, which stands for no prompt, nothing.

        Raises:
            UserError: it has other values than the rows before it.
        """
        values, lost, *images = row
        self.names = self.names or list(values)
        if values.keys() != set(self.names):
            raise UserError(
                f"evaluation.measures: they return {', '.join(values.keys() ^ set(self.names))} for some prompts only: "
                "return NaN where a prompt has no value"
            )
        tensors = (torch.stack([*(values[name] for name in self.names), lost]), *images)
        self._parts = self._parts or [
            torch.zeros(size, *tensor.shape, dtype=tensor.dtype)
            for size, tensor in zip(self._sizes, tensors, strict=True)
        ]
        for part, tensor in zip(self._parts, tensors, strict=True):
            if number < len(part):
                part[number] = tensor

    def of_all_processes(self, device: torch.device) -> tuple[dict[str, Tensor], int, Tensor, Tensor]:
        """Values by name, float64 [P]; the number of NaN images; images, in the first process only; embeddings.

        Called by all processes together, each after its own rows, of which there is at least one.
        """
        table_PN, grid_PS3HW, embedding_PSD = self._parts
        table_PN, embedding_PSD = (sum_over_processes(part, device) for part in (table_PN, embedding_PSD))
        grid_PS3HW = sum_over_processes(grid_PS3HW, device, everywhere=False)
        values_P = dict(zip(self.names, table_PN[:, :-1].T, strict=True))
        return values_P, int(table_PN[:, -1].sum()), grid_PS3HW, embedding_PSD
