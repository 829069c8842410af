"""Advantage-weighted matching: a policy gradient whose log-density is a flow-matching loss on the policy's own images.

Levers: as under DiffusionNFT, on the image as a whole (`forward`).
"""

from dataclasses import dataclass

from torch import Tensor

from drift_pl.functional.forward_process import matching_log_prob
from drift_pl.functional.losses import clipped_surrogate
from drift_pl.training.ema import Lag
from drift_pl.training.updates.forward import ForwardLoss, ForwardPasses, NoisedImages, mean_square
from drift_pl.training.updates.protocol import UpdateContext


@dataclass(frozen=True, kw_only=True)
class MatchingUpdate(ForwardPasses):
    """AWM (arXiv 2509.25050). Per image and noise level, with log p = `matching_log_prob`, the loss is

        clipped_surrogate(log p - log p_old, A / A_max) + kl_weight |v - v_reference|^2 + awm_pull |v - v_lagging|^2,

    where p_old is the policy that sampled, which is the one of this iteration, and the lagging one follows it
    (`old_decay_max`). The first gradient is that of A / A_max times the matching loss.

    Attributes:
        clip_range: clip of the ratio; published 1, which hardly ever acts.
        advantage_clip: A_max.
        awm_weighting, awm_power: see `matching_log_prob`.
        awm_pull: weight of the squared distance to the lagging policy's velocity, >= 0.
        others: see `ForwardPasses`.
    """

    clip_range: float
    advantage_clip: float
    awm_weighting: str
    awm_power: float
    awm_pull: float

    @property
    def lag(self) -> Lag | None:
        """The lagging policy does not sample."""
        return self._lag(samples=False) if self.awm_pull > 0 else None

    def idle_at_zero(self, first: bool) -> bool:
        """In every optimizer step, unless something else pulls: the surrogate is A times a function of the ratio."""
        return self.kl_weight == 0 and self.lag is None

    def loss(self, context: UpdateContext) -> "MatchingLoss":
        images = self.noised_images(context)
        sampling_NBCHW, lagging_NBCHW = self.sampling_velocities(images), None
        if context.old_policy is not None:
            with context.old_policy.swapped_in():
                lagging_NBCHW = self.velocities(images)
        return MatchingLoss(self, images, sampling_NBCHW, lagging_NBCHW)


@dataclass(frozen=True)
class MatchingLoss(ForwardLoss):
    """The loss of one run, see `ForwardLoss`.

    Attributes:
        sampling_NBCHW: velocities of the policy that sampled, for all optimizer steps but the first.
        lagging_NBCHW: of the lagging policy, or None.
    """

    update: MatchingUpdate
    images: NoisedImages
    sampling_NBCHW: Tensor
    lagging_NBCHW: Tensor | None

    def __call__(self, rows_B: Tensor, weight_B: Tensor, n: int, first: bool) -> Tensor:
        """See `Loss`."""
        update, context = self.update, self.images.context
        reference_BCHW, velocity_BCHW, rows_B = self.velocities(rows_B, n)
        old_BCHW = velocity_BCHW.detach() if first else self.sampling_NBCHW[n, rows_B]
        loss_B = self._surrogate(velocity_BCHW, old_BCHW, rows_B, weight_B, n)
        if reference_BCHW is not None:
            kl_B = mean_square(velocity_BCHW - reference_BCHW)
            loss_B = loss_B + update.divergence(context, kl_B, rows_B, weight_B, 0)
        if self.lagging_NBCHW is not None:
            pull_B = mean_square(velocity_BCHW - self.lagging_NBCHW[n, rows_B])
            context.report.add("policy/lag", pull_B, weight_B)
            loss_B = loss_B + update.awm_pull * pull_B
        return loss_B

    def _surrogate(self, velocity_BCHW: Tensor, old_BCHW: Tensor, rows_B: Tensor, weight_B: Tensor, n: int) -> Tensor:
        update, report = self.update, self.images.context.report
        target_BCHW, time = self.images.target_NBCHW[n, rows_B], self.images.times_N[n]
        form = (target_BCHW, time, update.awm_weighting, update.awm_power)
        log_ratio_B = matching_log_prob(velocity_BCHW, *form) - matching_log_prob(old_BCHW, *form)
        advantage_B = self.images.context.experience.advantage_KB[0, rows_B] / update.advantage_clip
        loss_B, health = clipped_surrogate(log_ratio_B, advantage_B.clamp(-1, 1), update.clip_range)
        for name in ("clipped_high", "clipped_low"):
            report.add(f"policy/{name}", health[name], weight_B)
        self.report_change(old_BCHW, target_BCHW, velocity_BCHW, weight_B)
        return loss_B
