"""Training of a sharded network under Lightning, with the same checkpoints as in one process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from drift_pl.policies.sharding import collected, laid_out_like


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 by Lightning's `ModelParallelStrategy`; the module shards its network in `configure_model`.

    Lightning's own would gather the frozen weights into each checkpoint, and number the optimizer's state otherwise
    than in one process. Here a checkpoint holds what it holds under any other strategy, whole, so that it can be
    resumed under any other, by any number of processes. One tensor is gathered after the other.

    Args:
        arguments: see `ModelParallelStrategy`; `data_parallel_size` is the number of processes.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, **arguments)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Within it gradients are accumulated and not exchanged, unless every weight trains.

        They are whole on every process then: small with an adapter, and as large as the network without one. There each
        pass sums its gradients, and a process keeps its own part.
        """
        assert self.lightning_module is not None
        network = self.lightning_module.network
        blocked = not all(parameter.requires_grad for parameter in network.parameters())
        network.set_requires_gradient_sync(not blocked)
        try:
            yield
        finally:
            network.set_requires_gradient_sync(True)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The trainable parameters and the module's own buffers; the first process has them."""
        module = self.lightning_module
        assert module is not None
        kept = {name for name, value in module.named_parameters() if value.requires_grad}
        kept |= {name for name, _ in module.named_buffers(recurse=False)}
        return collected({name: value for name, value in module.state_dict().items() if name in kept})

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        module, state = self.lightning_module, checkpoint["state_dict"]
        assert module is not None
        with torch.no_grad():
            for name, value in [*module.named_parameters(), *module.named_buffers(recurse=False)]:
                if name in state:
                    value.copy_(laid_out_like(state[name], value))

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """As the optimizer of one process has it; the first process has the state of the parameters."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        content = optimizer.state_dict()
        state = {number: collected(values) for number, values in content["state"].items()}
        return content | {"state": state if self.is_global_zero else {}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, content in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            numbers = [number for group in content["param_groups"] for number in group["params"]]
            state = dict(content["state"])
            for number, parameter in zip(numbers, parameters, strict=True):
                if number in state:
                    state[number] = {name: _moment(value, parameter) for name, value in state[number].items()}
            optimizer.load_state_dict({**content, "state": state})

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Its content, mapped: every process reads its own rows only."""
        return torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=True)


def _moment(value: Any, parameter: Tensor) -> Any:
    """A copy of this process's part of a parameter's moment; numbers are whole."""
    if not isinstance(value, Tensor):
        return value
    return laid_out_like(value, parameter) if value.shape == parameter.shape else value.clone()
