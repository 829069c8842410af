"""An exponential moving average of the trainable parameters.

Lightning's callback averages once per training step (here an iteration, with several optimizer steps), copies the
frozen model, and cannot resume a checkpoint that holds only the adapter.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from drift_pl.policies.sharding import laid_out_like


class ParameterAverage:
    """Averages named parameters after each optimizer step; the decay of step k is min((1 + k) / (10 + k), decay).

    Args:
        parameters: names and parameters; the average starts as their copy.
        decay: in [0, 1); with 0 the average equals the parameters.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self._parameters = dict(parameters)
        self.decay = decay
        self.num_updates = 0
        self.average = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Updates the average with the current parameters."""
        decay = min((1 + self.num_updates) / (10 + self.num_updates), self.decay)
        self.num_updates += 1
        live = [parameter.detach() for parameter in self._parameters.values()]
        torch._foreach_lerp_(list(self.average.values()), live, 1 - decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within it the live parameters hold the average; afterwards they are restored, bit for bit."""
        if all(torch.equal(parameter, self.average[name]) for name, parameter in self._parameters.items()):
            yield  # before the first update: nothing is written, so unchanged parameters still count as unchanged
            return
        # clone(): on a CPU a detached tensor would alias the parameter, and nothing could be restored.
        live = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._write(self.average)
        try:
            yield
        finally:
            self._write(live)

    def to(self, device: torch.device | str) -> None:
        self.average = {name: value.to(device) for name, value in self.average.items()}

    def state_dict(self) -> dict[str, Tensor | int]:
        """The average, sharded where the parameters are."""
        return {"num_updates": self.num_updates, **self.average}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Takes the average of a checkpoint, whole, or one that is sharded like the parameters."""
        self.num_updates = int(state["num_updates"])
        for name, value in self.average.items():
            value.copy_(laid_out_like(state[name], value))

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
