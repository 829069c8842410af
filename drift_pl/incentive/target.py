"""A target in place of a weight: the shaping bonus is made as strong as it takes to keep a share of the diversity.

What a weight does depends on the reward's spread, on the learning rate and on how far the run has come. A target does
not: the weight is multiplied in each iteration by a factor that grows with the distance from the target, as the
controllers of a KL weight do (Ziegler et al. 2019, arXiv 1909.08593, sec. 2.2).
"""

import math
from dataclasses import dataclass

LARGEST_ERROR = 0.2
"""Relative distances from the target beyond it count as this, as in the KL controllers."""


@dataclass(frozen=True)
class WeightTarget:
    """An integral controller of the logarithm of a weight.

    With rho the groups' diversity over the base model's,

        w <- clip(w exp(gain e), low, high),        e = clip((share - rho) / share, -0.2, 0.2).

    Where the diversity answers at once, d rho / d log w = k > 0 near the target, the distance of log w from its fixed
    point shrinks by 1 - gain k / share in each iteration: below 1 in magnitude for gain < 2 share / k. It does not wind
    up: a weight at a bound leaves it in the first iteration whose error points back.

    Attributes:
        share: > 0, of the base model's diversity.
        gain: > 0.
        low, high: bounds of the weight, 0 < low < high.
    """

    share: float
    gain: float
    low: float
    high: float

    def adjusted(self, weight: float, diversity: float, base: float) -> float:
        """The weight of an iteration's bonus.

        Args:
            weight: of the iteration before; at first the configured one.
            diversity: of the iteration's groups; not finite where there was none to measure: the weight stays.
            base: the base model's, measured in the same way.
        """
        if not (math.isfinite(diversity) and math.isfinite(base) and base > 0):
            return weight
        error = (self.share - diversity / base) / self.share
        error = min(LARGEST_ERROR, max(-LARGEST_ERROR, error))
        return min(self.high, max(self.low, weight * math.exp(self.gain * error)))
