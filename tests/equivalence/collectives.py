"""A callback that writes down what a process exchanges with the others: `trainer.callbacks=[{name: ...}]`."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from drift_pl.sampling.groups import GroupSampling
from drift_pl.training.module import DriftModule

FOLDER = "COLLECTIVES"
"""Environment variable: where each process writes RANK.json, [place, function, numbers in its tensors] per call."""
FUNCTIONS = (
    *("all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "all_to_all", "all_to_all_single"),
    *("barrier", "broadcast", "broadcast_object_list", "gather", "gather_object", "monitored_barrier", "reduce"),
    *("reduce_scatter", "reduce_scatter_tensor", "scatter", "send", "recv", "isend", "irecv", "_broadcast_coalesced"),
)


class Counting(L.Callback):
    """Places: `start` before the first iteration, `rollout`, `step` for the rest of an iteration, `between`.

    An iteration begins with a call of `nothing`.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[str, str, int]] = []
        self._place = "start"

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for name in FUNCTIONS:
            setattr(dist, name, self._counted(name, getattr(dist, name)))
        GroupSampling.__call__ = self._at("rollout", GroupSampling.__call__)
        DriftModule.training_step = self._at("step", DriftModule.training_step)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gradients are summed in C++; by this hook, with the function that Python knows."""
        trainer.strategy.model.register_comm_hook(None, allreduce_hook)

    def on_train_batch_start(self, *args: Any) -> None:
        self._place = "between"
        self._calls.append(("step", "nothing", 0))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        path = Path(os.environ[FOLDER]) / f"{trainer.global_rank}.json"
        path.write_text(json.dumps(self._calls))

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            tensors = [each for each in args if hasattr(each, "numel")]
            self._calls.append((self._place, name, sum(each.numel() for each in tensors)))
            return function(*args, **options)

        return call

    def _at(self, place: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            before, self._place = self._place, place
            try:
                return method(*args, **options)
            finally:
                self._place = before

        return call
