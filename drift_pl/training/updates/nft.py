"""DiffusionNFT: the policy is trained on its own images, re-noised, not on the sampled steps.

Levers: they act on the image as a whole (`forward`).
"""

from dataclasses import dataclass

from torch import Tensor

from drift_pl.functional.forward_process import ADVANTAGE_MODES, error_weight, nft_loss
from drift_pl.training.ema import Lag
from drift_pl.training.updates.forward import ForwardLoss, ForwardPasses, NoisedImages, mean_square
from drift_pl.training.updates.protocol import UpdateContext


@dataclass(frozen=True, kw_only=True)
class NftUpdate(ForwardPasses):
    """DiffusionNFT (arXiv 2509.16117), optionally with a KL term on the velocities.

    Every image that counts is noised to `nft_times` levels, and the loss is the mean over images and levels of

        w (nft_loss + kl_weight |v - v_reference|^2),        w = `error_weight` of v_old - u.

    That is DiffusionNFT's loss, on policy: v_old is the policy of this iteration. The published algorithm has
    `old_decay_max` > 0 (an old policy that lags behind, samples, and is v_old), `noise_levels="sampler"`,
    `branch_weight="own"` and `kl_scale="plain"`.

    Attributes:
        nft_beta: how strongly the policy is held to the old one, see `nft_loss`; no effect where it is the old one.
        branch_weight: `shared`, w for both branches, or `own`, each branch by its own current error.
        kl_scale: `weighted`, as above, or `plain`, without w.
        adv_mode: what becomes of advantages, see `ADVANTAGE_MODES`.
        advantage_clip: A_max, see `nft_loss`.
        others: see `ForwardPasses`.
    """

    nft_beta: float
    advantage_clip: float
    branch_weight: str = "shared"
    kl_scale: str = "weighted"
    adv_mode: str = "all"

    @property
    def lag(self) -> Lag | None:
        """The old policy samples. With `old_decay_max` = 0 it is the policy of now, and none is kept."""
        return self._lag(samples=True) if self.old_decay_max > 0 else None

    def idle_at_zero(self, first: bool) -> bool:
        """Where the policy is the old one; elsewhere an image of zero advantage pulls it back."""
        return self.kl_weight == 0 and first and self.lag is None

    def loss(self, context: UpdateContext) -> "NftLoss":
        images = self.noised_images(context)
        if context.old_policy is None:
            return NftLoss(self, images, self.sampling_velocities(images))
        with context.old_policy.swapped_in():
            return NftLoss(self, images, self.velocities(images))


@dataclass(frozen=True)
class NftLoss(ForwardLoss):
    """The loss of one run, see `ForwardLoss`.

    Attributes:
        old_NBCHW: velocities of the old policy, where an optimizer step needs them.
    """

    update: NftUpdate
    images: NoisedImages
    old_NBCHW: Tensor

    def __call__(self, rows_B: Tensor, weight_B: Tensor, n: int, first: bool) -> Tensor:
        """See `Loss`."""
        update, images, context = self.update, self.images, self.images.context
        reference_BCHW, velocity_BCHW, rows_B = self.velocities(rows_B, n)
        is_old = first and context.old_policy is None
        old_BCHW = velocity_BCHW.detach() if is_old else self.old_NBCHW[n, rows_B]
        target_BCHW = images.target_NBCHW[n, rows_B]
        self.report_change(old_BCHW, target_BCHW, velocity_BCHW, weight_B)
        policy_B = self._policy_loss(velocity_BCHW, old_BCHW, target_BCHW, rows_B, images.times_N[n])
        weighted, plain = ([policy_B], []) if update.branch_weight == "shared" else ([], [policy_B])
        if reference_BCHW is not None:
            kl_B = update.divergence(context, mean_square(velocity_BCHW - reference_BCHW), rows_B, weight_B, 0)
            (weighted if update.kl_scale == "weighted" else plain).append(kl_B)
        return sum(weighted) * error_weight(old_BCHW - target_BCHW, images.times_N[n]) + sum(plain)

    def _policy_loss(
        self, velocity_BCHW: Tensor, old_BCHW: Tensor, target_BCHW: Tensor, rows_B: Tensor, time: float
    ) -> Tensor:
        update = self.update
        advantage_B = self.images.context.experience.advantage_KB[0, rows_B]  # of the image: steps do not matter here
        advantage_B = ADVANTAGE_MODES[update.adv_mode](advantage_B)
        own_time = time if update.branch_weight == "own" else None
        inputs = (velocity_BCHW, old_BCHW, target_BCHW, advantage_B, update.advantage_clip, update.nft_beta)
        return nft_loss(*inputs, own_time)
