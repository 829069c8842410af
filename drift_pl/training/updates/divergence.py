"""Flow-DPPO: the surrogate on the sampled steps, held back by their exact divergence in place of a clip.

Levers: as under the clipped update.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from drift_pl.functional.losses import divergence_masked_surrogate
from drift_pl.training.updates.clipped import StepsUpdate


@dataclass(frozen=True, kw_only=True)
class FlowDppoUpdate(StepsUpdate):
    """Flow-DPPO (arXiv 2606.11025), see `divergence_masked_surrogate`.

    Attributes:
        kl_limit: delta > 0; published 1e-7 for Flow-GRPO's SDE and 1e-6 for Flow-CPS, and 1e-5 in its code.
        others: see `StepsUpdate`.
    """

    kl_limit: float

    @property
    def keep(self) -> frozenset[str]:
        """What the rollout stores in addition, see `rollout`."""
        return frozenset({"means"})

    def surrogate(
        self, log_ratio_B: Tensor, advantage_B: Tensor, kl: Callable[[], Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `StepsUpdate.surrogate`."""
        return divergence_masked_surrogate(log_ratio_B, advantage_B, kl(), self.kl_limit)
