"""Encoded prompts on disk, by what encoded them: each text is encoded once, whatever the number of runs."""

import hashlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from drift_pl.core.files import replacing
from drift_pl.core.types import Condition

PARTS = ("tokens_BLE", "pooled_BE", "num_channels_L", "num_tokens_B")
"""Of a `Condition`, in the order of its constructor."""


@dataclass(frozen=True)
class PromptStore:
    """A folder with one safetensors file per text. Processes and runs may share it: files are replaced atomically.

    What cannot be read counts as missing, and what cannot be written is warned of once: a full disk ends no run.

    Attributes:
        folder: FOLDER/ENCODER/TEXT.safetensors are its files, both names digests.
        encoder: what the values depend on besides the text: weights, tokenizers, lengths (`Policy.encoder_key`).
    """

    folder: Path
    encoder: str
    _refused: set[str] = field(default_factory=set, repr=False, compare=False)

    def read(self, text: str, kind: str) -> Condition | None:
        """The condition of a text, one row on the CPU; None if there is none.

        Args:
            kind: of the encoding, e.g. whether it is a negative prompt.
        """
        path = self._path(text, kind)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                if file.metadata() != _label(text, kind):
                    return None
                there = set(file.keys())
                return Condition(*(file.get_tensor(name) if name in there else None for name in PARTS))
        except Exception:  # damaged: whatever safetensors says of it
            return None

    def write(self, text: str, kind: str, condition: Condition) -> None:
        """Keeps the condition of a text, one row on the CPU."""
        parts = {name: getattr(condition, name) for name in PARTS}
        tensors = {name: value.contiguous().clone() for name, value in parts.items() if isinstance(value, torch.Tensor)}
        try:
            with replacing(self._path(text, kind)) as temporary:
                save_file(tensors, temporary, _label(text, kind))
        except OSError as error:
            if not self._refused:
                self._refused.add("write")
                warnings.warn(
                    f"prompts.cache_dir={self.folder}: encoded prompts are not kept ({error.strerror or error}): make "
                    "room there, or give another folder",
                    stacklevel=2,
                )

    def _path(self, text: str, kind: str) -> Path:
        digest = hashlib.sha256(f"{kind}:{text}".encode()).hexdigest()[:40]
        return self.folder / self.encoder / f"{digest}.safetensors"


def _label(text: str, kind: str) -> dict[str, str]:
    return {"text": text, "kind": kind}
