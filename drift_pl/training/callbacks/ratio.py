"""Watches that the update sees the densities that the rollout computed."""

import warnings
from typing import Any

import lightning as L

FIRST = "policy/ratio_deviation_first"
BOUND = 0.1
"""Of the clip range: above it, differences of arithmetic alone would begin to decide what is clipped."""


class RatioWatch(L.Callback):
    """Warns once if the ratio deviates from 1 before the policy has changed.

    It is exactly 1 where rollout and update compute alike. Another micro-batch size in the rollout, a last micro-batch
    that is smaller, or compiled blocks change the order of sums, and so the last bits of a log-probability.

    Args:
        clip_range: of the ratio.
    """

    def __init__(self, clip_range: float) -> None:
        self._bound, self._said = BOUND * clip_range, False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        deviation = outputs["metrics"].get(FIRST, 0.0)
        if deviation <= self._bound or self._said or not trainer.is_global_zero:
            return
        self._said = True
        warnings.warn(
            f"iteration {batch.iteration}: {FIRST} is {deviation:.1e}, more than {self._bound:.0e} (a tenth of "
            "objective.clip_range): rollout and update compute other densities; set sampler.micro_batch=null, or "
            "policy.compile=false",
            stacklevel=1,
        )
