"""Diversity alarm: warns, and optionally ends the run, when the training groups become too similar."""

import math
import warnings
from typing import Any

import lightning as L

# Diversity of one iteration's few prompts is noisy: the alarm averages over this many iterations.
ITERATIONS = 5


class DiversityAlarm(L.Callback):
    """Compares the mean pairwise distance of the most recent groups with that of the run's first groups.

    Logs `diversity/share_of_start`, their ratio. Must come after `DiversityMonitor`, whose metric it reads. Iterations
    without a distance do not count; if the images of the first groups are all alike, there is no ratio.

    Args:
        threshold: ratio below which it warns, once.
        stop: end the run then; the summary is written as usual, and the run can be resumed.

    Attributes:
        stopped: why it has ended the run, or None.
    """

    def __init__(self, threshold: float, stop: bool) -> None:
        self._threshold, self._stop = threshold, stop
        self._start: list[float] = []
        self._recent: list[float] = []
        self._warned = False
        self.stopped: str | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"start": list(self._start), "recent": list(self._recent), "warned": self._warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._start, self._recent = list(state_dict["start"]), list(state_dict["recent"])
        self._warned = state_dict["warned"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        distance = outputs["metrics"]["diversity/pairwise_distance"]
        if not math.isfinite(distance):
            return
        if len(self._start) < ITERATIONS:
            self._start.append(distance)
        self._recent = [*self._recent, distance][-ITERATIONS:]
        start = sum(self._start) / len(self._start)
        if start <= 0:
            self._warn_of_no_start()
            return
        share = (sum(self._recent) / len(self._recent)) / start
        pl_module.log("diversity/share_of_start", share, batch_size=1)
        if share >= self._threshold:
            return
        if not self._warned:
            self._warned = True
            # attributed to this module, not to Lightning's loop: the commands show warnings of this package only
            warnings.warn(self._message(share, trainer.datamodule.iteration), stacklevel=1)
        if self._stop:
            trainer.should_stop = True
            self.stopped = f"diversity alarm: {share:.0%} of the initial diversity (trainer.alarm.stop)"

    def _warn_of_no_start(self) -> None:
        if len(self._start) == ITERATIONS and not self._warned:
            self._warned = True
            warnings.warn(
                "the images of the first groups are all alike for evaluation.encoder: trainer.alarm has nothing to "
                "compare with and is off",
                stacklevel=1,
            )

    def _message(self, share: float, iteration: int) -> str:
        then = "the run ends here (trainer.alarm.stop)" if self._stop else "trainer.alarm.stop=true would end the run"
        return (
            f"iteration {iteration}: the groups' diversity is {share:.0%} of its initial value, below "
            f"trainer.alarm.threshold={self._threshold:g}; {then}"
        )
