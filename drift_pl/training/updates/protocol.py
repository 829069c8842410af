"""What an update is: an iteration's images and advantages in, gradients out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import lightning as L
from torch import Tensor

from drift_pl.policies.protocol import Policy
from drift_pl.sampling.rollout import Sampler
from drift_pl.training.experience import Experience
from drift_pl.training.reporting import IterationReport


@dataclass(frozen=True)
class UpdateContext:
    """What one run of an update works with.

    Attributes:
        module: its `manual_backward` accumulates gradients.
        policy: the generator, as it is now.
        sampler: of the rollout: grid, guidance, negative condition, noise.
        experience: the iteration's images and advantages.
        counts_U: images that count in each optimiser step of a pass, summed over all processes.
        report: receives the policy's health, as `policy/NAME`.
    """

    module: L.LightningModule
    policy: Policy
    sampler: Sampler
    experience: Experience
    counts_U: Tensor
    report: IterationReport


class Update(Protocol):
    """Turns an iteration's experience into gradients; its constructor takes keys of `objective` by their names."""

    @property
    def keep(self) -> frozenset[str]:
        """What it needs of a rollout besides, see `rollout`."""
        ...

    @property
    def updates(self) -> int:
        """Optimiser steps per pass, `objective.updates`."""
        ...

    def run(self, context: UpdateContext) -> Iterator[None]:
        """Yields when the gradients of an optimiser step are accumulated, for the caller to clip and step."""
        ...
