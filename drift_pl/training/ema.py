"""Averages of the trainable parameters: the one that is evaluated, and an old policy that lags behind.

Lightning's callback averages once per training step (here an iteration, with several optimizer steps), copies the
frozen model, and cannot resume a checkpoint that holds only the adapter.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drift_pl.functional.schedule import lag_decay
from drift_pl.policies.sharding import laid_out_like


class ParameterAverage:
    """Averages named parameters after every Nth optimizer step; the decay of step k is min((1 + k) / (10 + k), decay).

    Args:
        parameters: names and parameters; the average starts as their copy.
        decay: in [0, 1); with 0 the average equals the parameters.
        every: N, optimizer steps between two changes of the average, at least 1. Steps that change nothing count in k.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float, every: int = 1) -> None:
        self._parameters = dict(parameters)
        self.decay, self.every = decay, every
        self.num_updates = 0
        self.average = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    def update(self) -> None:
        """Counts an optimizer step, and every Nth time takes the current parameters into the average."""
        decay = min((1 + self.num_updates) / (10 + self.num_updates), self.decay)
        self.num_updates += 1
        if self.num_updates % self.every == 0:
            self._follow(decay)

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        """average <- decay average + (1 - decay) parameters."""
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


@dataclass(frozen=True)
class Lag:
    """How an old policy lags behind the trained one.

    Attributes:
        rate, most, after: see `lag_decay`.
        samples: whether rollouts are sampled by it.
    """

    rate: float
    most: float
    after: int
    samples: bool


class OldPolicy(ParameterAverage):
    """Weights of an old policy: after each iteration old <- d old + (1 - d) new, with d = `lag_decay`.

    They take what a second adapter of the same rank would, or, with full tuning, a second copy of all weights. Within
    `swapped_in` the network is the old policy. `num_updates` counts optimizer steps.

    Args:
        parameters: names and parameters; the old policy starts as their copy.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], lag: Lag) -> None:
        super().__init__(parameters, lag.most)
        self.lag = lag

    def end_iteration(self, steps: int) -> None:
        """Follows the parameters after an iteration of `steps` optimizer steps."""
        self.num_updates += steps
        self._follow(lag_decay(self.num_updates, self.lag.rate, self.lag.most, self.lag.after))
