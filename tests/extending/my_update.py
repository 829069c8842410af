"""An update of someone else's: `objective.loss=my_update:Reinforce`, with `objective.args={baseline: 0.5}`."""

from dataclasses import dataclass

from torch import Tensor

from drift_pl.sampling.rollout import replay
from drift_pl.training.updates.passes import Passes
from drift_pl.training.updates.protocol import UpdateContext


@dataclass(frozen=True)
class Reinforce(Passes):
    """REINFORCE on replayed steps: the loss is -(A - baseline) log p, without a ratio, a clip or a divergence.

    The fields of `Passes` are keys of `objective`; a field that is not comes from `objective.args`.

    Attributes:
        baseline: subtracted from every advantage.
    """

    baseline: float = 0.0

    def loss(self, context: UpdateContext) -> "ReinforceLoss":
        return ReinforceLoss(context, self.baseline)


@dataclass(frozen=True)
class ReinforceLoss:
    """The loss of one run; its passes over an image are the trained steps."""

    context: UpdateContext
    baseline: float

    @property
    def factors(self) -> list[float]:
        """Every trained step weighs the same."""
        return [1.0] * len(self.context.experience.trajectory.steps_K)

    def __call__(self, rows_B: Tensor, weight_B: Tensor, n: int, first: bool) -> Tensor:
        """Losses of the images `rows_B` in trained step `n`, [b]."""
        experience, policy, sampler = self.context.experience, self.context.policy, self.context.sampler
        step = replay(policy, sampler, experience.trajectory, n, rows_B, experience.condition[rows_B], False)
        self.context.report.add("policy/log_prob", step.log_prob_B, weight_B)
        return -(experience.advantage_KB[n, rows_B] - self.baseline) * step.log_prob_B
