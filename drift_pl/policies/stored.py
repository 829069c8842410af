"""A network of a pipeline's folder, made without weights, and filled after it is sharded: a process reads its rows."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from drift_pl.policies.sharding import as_shard, own_rows

WEIGHTS = "diffusion_pytorch_model.safetensors"
BASE = ".base_layer."
"""What an adapter adds to the names of the weights that it stands beside."""


@dataclass(frozen=True)
class StoredNetwork:
    """A part of a pipeline's folder.

    Attributes:
        folder: of the part, with config.json and safetensors files.
        kind: its class in diffusers.
        dtype: of the weights once they are loaded; some modules of some models stay in float32.
    """

    folder: Path
    kind: Any
    dtype: torch.dtype

    def skeleton(self) -> nn.Module:
        """The network without weights: parameters on the meta device, of the dtype that loading gives them."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with init_empty_weights():
                network = self.kind.from_config(self.kind.load_config(str(self.folder)))
        finally:
            torch.set_default_dtype(before)
        for name, parameter in network.named_parameters():
            parameter.data = parameter.data.to(self._dtype(name))
        return network

    def refuse_others(self, skeleton: nn.Module) -> None:
        """Compares the files with a skeleton, without reading weights.

        Raises:
            OSError: they are in another format.
            ValueError: a weight is missing, or has another shape.
        """
        shapes: dict[str, list[int]] = {}
        for file in weight_files(self.folder):
            if not file.is_file():
                name = f"{self.folder.name}/{file.name}"
                raise OSError(f"{name} is missing, which trainer.strategy=fsdp reads: use trainer.strategy=ddp")
            with safe_open(file, "pt") as weights:
                shapes |= {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
        for name, parameter in skeleton.named_parameters():
            if shapes.get(name) != [*parameter.shape]:
                found = " x ".join(map(str, shapes[name])) if name in shapes else "not there"
                raise ValueError(f"{name} of its {self.folder.name} is {found}")

    def fill(self, network: nn.Module) -> None:
        """Reads this process's rows of every weight of a sharded skeleton; an adapter in it has its own already."""
        state = {name.replace(BASE, "."): (name, value) for name, value in network.state_dict().items()}
        wanted = {stored for stored, (_, value) in state.items() if self._is_empty(value)}
        found: dict[str, Tensor] = {}
        for file in weight_files(self.folder):
            with safe_open(file, "pt") as weights:
                for stored in wanted & set(weights.keys()):
                    name, value = state[stored]
                    found[name] = self._read(weights.get_slice(stored), stored, value)
        network.load_state_dict(found, strict=False, assign=True)

    def _is_empty(self, value: Tensor) -> bool:
        """Whether it comes from the files: a weight on the meta device, or a buffer."""
        return not isinstance(value, DTensor) or value.to_local().is_meta

    def _read(self, stored: Any, name: str, like: Tensor) -> Tensor:
        """The rows of one weight that this process holds; a buffer whole."""
        if not isinstance(like, DTensor):
            return stored[:].to(self._dtype(name)).to(like.device)
        first, end = own_rows(like)
        rows = stored[first:end] if first < end else torch.empty(0, *like.shape[1:])
        device = torch.device(like.device_mesh.device_type)
        return as_shard(rows.to(self._dtype(name)).to(device, like.dtype), like)

    def _dtype(self, name: str) -> torch.dtype:
        """As diffusers loads it: some modules of some models stay in float32."""
        kept = self.kind._keep_in_fp32_modules or []
        return torch.float32 if set(kept) & set(name.split(".")) else self.dtype


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a part of a pipeline's folder; they may not be there."""
    index = folder / f"{WEIGHTS}.index.json"
    if not index.is_file():
        return [folder / WEIGHTS]
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return sorted({folder / name for name in names})


def stored_dtype(folder: Path) -> torch.dtype:
    """The dtype of most weights of a part of a pipeline's folder, from its files' headers; float32 of other formats."""
    sizes: Counter[str] = Counter()
    for file in filter(Path.is_file, weight_files(folder)):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                stored = weights.get_slice(name)
                sizes[stored.get_dtype()] += prod(stored.get_shape())
    most = max(sizes, key=sizes.__getitem__, default="F32")
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(most, torch.float32)


@contextmanager
def weightless_layers(network: nn.Module) -> Iterator[None]:
    """Within it the linear layers of a network without weights are on the CPU, with weights that take no memory.

    An adapter goes where its layer is, and is to be drawn as beside a whole network: its own weights are real.
    """
    layers = [(layer, layer.weight) for layer in network.modules() if isinstance(layer, nn.Linear)]
    for layer, weight in layers:
        placeholder = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
        layer.weight = nn.Parameter(placeholder, requires_grad=False)
    try:
        yield
    finally:
        for layer, weight in layers:
            layer.weight = weight.requires_grad_(layer.weight.requires_grad)
