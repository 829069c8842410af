"""Watches that the update sees the densities that the rollout computed."""

import warnings
from typing import Any

import lightning as L

BOUND = 0.1
"""Of the limit: above it, differences of arithmetic alone would begin to decide what is clipped or masked."""


class RatioWatch(L.Callback):
    """Warns once if the policy deviates from the one that sampled before it has changed.

    The ratio is exactly 1, and the divergence 0, where rollout and update compute alike. Another micro-batch size in
    the rollout, a last micro-batch that is smaller, or compiled blocks change the order of sums, and so the last bits
    of a log-probability.

    Args:
        measure: the metric of an iteration's first optimizer step, of what decides: the ratio, or the divergence.
        limit: of that: the clip range, or the divergence above which a step is masked.
        setting: that sets the limit.
    """

    def __init__(self, measure: str, limit: float, setting: str) -> None:
        self._bound, self._measure, self._setting, self._said = BOUND * limit, measure, setting, False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        deviation = outputs["metrics"].get(self._measure, 0.0)
        if deviation <= self._bound or self._said or not trainer.is_global_zero:
            return
        self._said = True
        warnings.warn(
            f"iteration {batch.iteration}: {self._measure} is {deviation:.1e}, more than {self._bound:.0e} (a tenth of "
            f"{self._setting}): rollout and update compute other densities; set sampler.micro_batch=null, or "
            "policy.compile=false",
            stacklevel=1,
        )
