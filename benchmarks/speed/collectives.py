"""What processes exchange, counted: a Lightning callback for a run of `fit`, on every process.

torch hands every collective to its dispatcher, those that DDP's C++ code starts in a backward pass included, so a
dispatch mode sees them all.
"""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from drift_pl.sampling.groups import GroupSampling
from drift_pl.training.module import DriftModule

NAMESPACES = ("c10d", "_c10d_functional")
IGNORED = ("wait_tensor", "_wrap_tensor_autograd")
"""They end an exchange that was counted when it began."""
STAGES = {"rollout": (GroupSampling, "__call__"), "update": (DriftModule, "update_policy")}
"""Stage -> class and method; what happens outside of them is `between`."""


class Collectives(TorchDispatchMode):
    """Counts the collectives within it, by stage and name.

    Attributes:
        stage: of what follows.
        calls, bytes: (stage, name) -> number, and size of the larger of what this process gives and gets.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stage = "between"
        self.calls: Counter[tuple[str, str]] = Counter()
        self.bytes: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # comes back as operations on its shards
        name = function._schema.name.split("::")[1]
        if function.namespace in NAMESPACES and name not in IGNORED:
            key = self.stage, plain(name)
            self.calls[key] += 1
            self.bytes[key] += max(map(size_of, args), default=0)
        return function(*args, **(kwargs or {}))

    def take(self) -> dict[str, dict[str, list[int]]]:
        """Stage -> name -> [calls, bytes], and starts again from nothing."""
        found: dict[str, dict[str, list[int]]] = {}
        for (stage, name), calls in self.calls.items():
            found.setdefault(stage, {})[name] = [calls, self.bytes[stage, name]]
        self.calls.clear()
        self.bytes.clear()
        return found


def plain(name: str) -> str:
    """`all_gather` for `allgather_`, `_allgather_base_` and the like, which differ in who provides the memory."""
    name = name.strip("_").removesuffix("_base")
    return {"allreduce": "all_reduce", "allgather": "all_gather"}.get(name, name)


def size_of(argument: Any) -> int:
    """Bytes of all tensors of an argument."""
    return sum(leaf.nbytes for leaf in tree_leaves(argument) if isinstance(leaf, Tensor))


class Count(L.Callback):
    """Writes what each iteration exchanges, or what it takes, to FOLDER/RANK.json.

    Args:
        folder: an existing one.
        exchange: count collectives, which slows the run; otherwise only the time is taken.
    """

    def __init__(self, folder: str, exchange: bool) -> None:
        self.folder, self.mode = Path(folder), Collectives() if exchange else None
        self.iterations: list[dict[str, Any]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.mode is not None:
            for stage, (kind, method) in STAGES.items():
                setattr(kind, method, self._marked(stage, getattr(kind, method)))
            self.mode.__enter__()
        self._begin()

    def on_train_batch_start(self, *_: Any) -> None:
        """Leaves out what it causes itself: whether a callback of somebody's, as this one is, has ended the run."""
        if self.mode is not None:
            self.mode.take()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        entry = {"cpu_s": time.thread_time() - self._cpu, "wall_s": time.perf_counter() - self._wall}
        self.iterations.append(entry | ({} if self.mode is None else {"exchange": self.mode.take()}))
        self._begin()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.mode is not None:
            self.mode.__exit__(None, None, None)
        path = self.folder / f"{trainer.global_rank}.json"
        path.write_text(json.dumps(self.iterations), encoding="utf-8")

    def _begin(self) -> None:
        self._cpu, self._wall = time.thread_time(), time.perf_counter()

    def _marked(self, stage: str, method: Any) -> Any:
        """The method, within which the stage is another."""
        mode = self.mode

        def marked(*args: Any, **kwargs: Any) -> Any:
            assert mode is not None
            before, mode.stage = mode.stage, stage
            try:
                return method(*args, **kwargs)
            finally:
                mode.stage = before

        return marked
