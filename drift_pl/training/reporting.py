"""Metrics of an iteration: sums and counts on each process, one exchange, the same means on all."""

import time
import zlib
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.processes import gather_vectors
from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Scores

STAGES = ("rollout", "judges", "update")
"""Stages of an iteration in their order, whose seconds are logged as `time/STAGE_s`; see `IterationReport.lap`."""


class IterationReport:
    """Collects values over an iteration; `reduce` gives means and maxima over all processes.

    Every process must add the same names in the same order. Sums stay where their values are until `reduce`: to read
    them earlier would make a loop wait for the device in every pass.

    Attributes:
        seconds: stage -> its duration on this process, see `lap`.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}
        self._maxima: dict[str, Tensor] = {}
        self._closed: frozenset[str] = frozenset()
        self.seconds: dict[str, float] = {}
        self._lap_began = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Ends a stage. A stage begins where the previous one ended, the first with the report."""
        now = time.perf_counter()
        self.seconds[stage], self._lap_began = now - self._lap_began, now

    def __contains__(self, name: str) -> bool:
        return name in self._totals or name in self._maxima

    def close(self) -> None:
        """What there is so far is complete."""
        self._closed = frozenset(self._totals) | frozenset(self._maxima)

    def add(self, name: str, values: Tensor | float, weights: Tensor | None = None) -> None:
        """Adds to a mean; `weights` of the same shape, 0 for values that do not count. NaN values do not count.

        Raises:
            UserError: another part of the iteration has reported that name.
        """
        if name in self._closed or name.startswith("time/") or name == "iteration":
            raise UserError(
                f"report.add({name!r}): that is a metric of the run, or of another callback: call it e.g. "
                f"{f'my/{name}'!r}"
            )
        values = torch.as_tensor(values).detach().double()
        weights = torch.ones_like(values) if weights is None else weights.double()
        weights = weights * values.isfinite()
        added = torch.stack([(values.nan_to_num(0.0, 0.0, 0.0) * weights).sum(), weights.sum()])
        self._totals[name] = self._totals[name] + added if name in self._totals else added

    def add_maximum(self, name: str, values: Tensor, weights: Tensor) -> None:
        """Adds to a maximum of non-negative values; those of weight 0 do not count."""
        largest = (values.detach() * (weights > 0)).max().double()
        self._maxima[name] = torch.fmax(self._maxima.get(name, torch.zeros_like(largest)), largest)

    def agree(self, device: torch.device) -> None:
        """Checks that all processes report the same names in the same order, which `reduce` relies on.

        Raises:
            UserError: they do not; on all of them.
        """
        names = "\n".join([*self._totals, "", *self._maxima])
        digests_W1 = gather_vectors(torch.tensor([zlib.crc32(names.encode())]), device)
        if not (digests_W1 == digests_W1[0]).all():
            added = [name for name in (*self._totals, *self._maxima) if name not in self._closed]
            raise UserError(
                f"trainer.callbacks: processes add different metrics in observe_iteration, this one {', '.join(added)} "
                "last: add the same names in the same order on all, with weights of 0 where there is nothing to add"
            )

    def reduce(self, device: torch.device) -> dict[str, float]:
        """Means and maxima over all processes; a mean over nothing is NaN."""
        totals_2N = torch.stack([total.to(device) for total in self._totals.values()], dim=1)
        maxima = [largest.to(device)[None] for largest in self._maxima.values()]
        gathered = gather_vectors(torch.cat([totals_2N.flatten(), *maxima]), device)
        size = totals_2N.shape[1]
        means = gathered[:, :size].sum(0) / gathered[:, size : 2 * size].sum(0)
        maxima = gathered[:, 2 * size :].amax(0)
        return dict(zip([*self._totals, *self._maxima], torch.cat([means, maxima]).tolist(), strict=True))


@runtime_checkable
class Observer(Protocol):
    """A callback that adds metrics of its own to an iteration's, and so needs no exchange of its own."""

    def observe_iteration(
        self, report: IterationReport, scores: Scores, images_B3HW: Tensor, batch: PromptBatch
    ) -> None:
        """Is called after the update, on every process, which must all add the same names in the same order.

        Args:
            images_B3HW: of this process, in the order of `batch.samples`.
        """
        ...


def observe(
    callbacks: Iterable[object], report: IterationReport, scores: Scores, images_B3HW: Tensor, batch: PromptBatch
) -> None:
    """Lets the observers among the callbacks see the iteration.

    Raises:
        UserError: one of them adds a metric that there is already, or the processes add different ones.
    """
    observers = [callback for callback in callbacks if isinstance(callback, Observer)]
    for callback in observers:
        report.close()
        callback.observe_iteration(report, scores, images_B3HW, batch)
    if not all(type(callback).__module__.startswith("drift_pl.") for callback in observers):
        report.agree(images_B3HW.device)
