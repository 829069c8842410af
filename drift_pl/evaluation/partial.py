"""What is measured of a point, prompt by prompt, on the disk: an evaluation that is killed goes on where it was."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drift_pl.core.files import replacing
from drift_pl.evaluation.arrays import DAMAGED
from drift_pl.evaluation.record import Evaluation, Point

Row = tuple[dict[str, Tensor], Tensor, Tensor, Tensor]
"""Of one prompt, on the CPU: values, float64; number of NaN images; images for the grid; unit embeddings."""
SHAPE = "_shape"


@dataclass(frozen=True)
class PartialPoint:
    """The prompts of a point that are done. Each process writes its own, and reads everybody's.

    Attributes:
        folder: a file per prompt; the name says whose values they are and how they are measured.
        check: called before a prompt is kept; may raise.
    """

    folder: Path
    check: Callable[[], None] | None = None

    @classmethod
    def of(cls, evaluation: Evaluation, point: Point, check: Callable[[], None] | None = None) -> "PartialPoint":
        """Of a point that is to be measured for a record."""
        run = (evaluation.config_hash, evaluation.seed, evaluation.inputs, evaluation.training["prompts_digest"])
        text = json.dumps([run, evaluation.protocol, point.name, point.identity()], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cls(evaluation.folder.with_name("partial") / f"{point.name}-{digest}", check)

    def read(self, number: int, names: Sequence[str]) -> Row | None:
        """What is there of a prompt.

        Args:
            names: of the other prompts' values; empty for the first.

        Returns:
            None if it was not measured, has other values, or a power failure has cut its file short.
        """
        try:
            with np.load(self._file(number)) as arrays:
                values = dict(zip(arrays["names"].tolist(), torch.from_numpy(arrays["values"]), strict=True))
                lost, grid_S3HW, embedding_SD = (_tensor(arrays, f"row{place}") for place in range(3))
                return (values, lost, grid_S3HW, embedding_SD) if values.keys() == {*(names or values)} else None
        except (*DAMAGED, TypeError):
            return None

    def write(self, number: int, row: Row, needed: Sequence[bool]) -> None:
        """Writes what was measured of a prompt to its file, unless `check` raises first.

        Args:
            needed: of the row's tensors, which are looked at later; the others are kept as their shapes.
        """
        if self.check:
            self.check()
        values, *tensors = row
        arrays: dict[str, Any] = {
            f"row{place}" + ("" if keep else SHAPE): tensor.numpy() if keep else np.array(tensor.shape)
            for place, (tensor, keep) in enumerate(zip(tensors, needed, strict=True))
        }
        arrays |= {"names": np.array(list(values)), "values": torch.stack(list(values.values())).numpy()}
        with replacing(self._file(number)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    def remove(self) -> None:
        """Removes what is there of the point, of whatever weights: it is in its record, or is to be measured anew."""
        name = self.folder.name.rpartition("-")[0]
        for folder in self.folder.parent.glob(f"{name}-*"):
            if folder.name.rpartition("-")[0] == name:
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # others are being measured
            self.folder.parent.rmdir()

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"


def _tensor(arrays: Mapping[str, np.ndarray], name: str) -> Tensor:
    return torch.from_numpy(arrays[name]) if name in arrays else torch.zeros(arrays[name + SHAPE].tolist())
