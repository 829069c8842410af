"""The protocol of updates: an iteration's images and advantages in, gradients out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import lightning as L
from torch import Tensor

from drift_pl.policies.protocol import Policy
from drift_pl.sampling.sampler import Sampler
from drift_pl.training.ema import OldPolicy
from drift_pl.training.experience import Experience
from drift_pl.training.reporting import IterationReport


@dataclass(frozen=True)
class UpdateContext:
    """The inputs of an update.

    Attributes:
        module: its `manual_backward` accumulates gradients.
        policy: the generator.
        sampler: of the rollout: grid, guidance, negative condition, noise.
        experience: the iteration's images and advantages.
        counts_U: images that count in each optimizer step of a pass, summed over all processes.
        report: receives the policy's health, as `policy/NAME`.
        old_policy: weights that lag behind, if the update has `lag`.
        agreed: (optimizer step, whether it is the first) -> number of forward passes that all processes have agreed on.
    """

    module: L.LightningModule
    policy: Policy
    sampler: Sampler
    experience: Experience
    counts_U: Tensor
    report: IterationReport
    old_policy: OldPolicy | None = None
    agreed: dict[tuple[int, bool], int] = field(default_factory=dict)


class Update(Protocol):
    """Turns an iteration's experience into gradients; its constructor takes keys of `objective` by name.

    It may have `lag`, how an old policy lags behind (`Lag`): then `UpdateContext.old_policy` is one.

    Under `trainer.strategy=fsdp` every process must make the same number of passes through the policy's network, as
    `Passes` does, or the others wait for ever.
    """

    @property
    def keep(self) -> frozenset[str]:
        """What the rollout stores in addition, see `rollout`."""
        ...

    @property
    def updates(self) -> int:
        """Optimizer steps per pass, `objective.updates`."""
        ...

    def run(self, context: UpdateContext) -> Iterator[None]:
        """Yields when the gradients of an optimizer step are accumulated, for the caller to clip and step."""
        ...
