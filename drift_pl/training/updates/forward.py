"""DiffusionNFT's loss, on policy: the policy is trained on its own images, re-noised, not on the sampled steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.rng import make_generator, normal_per_sample, sample_generators, to_device
from drift_pl.functional.forward_process import clean_error_weight, nft_loss, noised, stratified_times
from drift_pl.training.updates.passes import Passes
from drift_pl.training.updates.protocol import UpdateContext


@dataclass(frozen=True)
class ForwardUpdate(Passes):
    """DiffusionNFT's loss (arXiv 2509.16117), on policy, optionally with a KL term on the velocities.

    Every image that counts is noised to `nft_times` levels, and the loss is the mean over images and levels of

        w (nft_loss + kl_weight |v - v_reference|^2),        w = `clean_error_weight`.

    The published algorithm differs in four places: its old policy lags behind the trained one, where ours is the one
    that sampled this iteration's images; its noise levels are the sampler's, ours are stratified over (0, 1); it
    computes the weight w of each of the loss's two branches from that branch's own error, ours is one for both, from
    the old policy's; its KL term is not weighted by w.

    Attributes:
        nft_times: noise levels per image.
        nft_beta: how strongly later steps are held to the policy that sampled, see `nft_loss`; no effect with a single
            step per image.
        advantage_clip: A_max, see `nft_loss`.
        inner_epochs, updates, micro_batch, skip_zero_advantage, kl_weight: see `Passes`.
    """

    nft_times: int
    nft_beta: float
    advantage_clip: float

    def idle_at_zero(self, first: bool) -> bool:
        """In the first optimizer step only: later ones pull an image of zero advantage back to the old policy."""
        return self.kl_weight == 0 and first

    def loss(self, context: UpdateContext) -> "VelocityLoss":
        """Noises every image to every level: a function of (seed, iteration, sample)."""
        batch, clean_BCHW = context.experience.batch, context.experience.trajectory.final_BCHW
        times_N = stratified_times(self.nft_times, make_generator("forward_times", *batch.key))
        generators = sample_generators("forward_noise", *batch.key, samples=batch.samples)
        noise_BNCHW = normal_per_sample(generators, (self.nft_times, *clean_BCHW.shape[1:]), clean_BCHW.device)
        pairs = [noised(clean_BCHW, noise_BNCHW[:, n], time) for n, time in enumerate(times_N)]
        state_NBCHW, target_NBCHW = (torch.stack(part) for part in zip(*pairs, strict=True))
        loss = VelocityLoss(self, context, times_N, state_NBCHW, target_NBCHW, torch.zeros_like(state_NBCHW))
        loss.remember_old_velocities()
        return loss


@dataclass(frozen=True)
class VelocityLoss:
    """The loss of one run; its passes are the noise levels.

    Attributes:
        times_N: noise levels, the same for all images.
        state_NBCHW: the noised latents.
        target_NBCHW: their velocities.
        old_NBCHW: velocities of the policy that sampled, where a later optimizer step needs them.
    """

    update: ForwardUpdate
    context: UpdateContext
    times_N: list[float]
    state_NBCHW: Tensor
    target_NBCHW: Tensor
    old_NBCHW: Tensor

    @property
    def factors(self) -> list[float]:
        """All noise levels have the same weight."""
        return [1.0] * len(self.times_N)

    @torch.no_grad()
    def remember_old_velocities(self) -> None:
        """Of the current policy, for all optimizer steps but the first, at which it has not changed."""
        for share in range(0 if self.update.inner_epochs > 1 else 1, self.update.updates):
            for part_B, _ in self.update.passes(self.context, share, first=False):
                for n in range(len(self.times_N)):
                    self.old_NBCHW[n, self._on_device(part_B)] = self._velocity(part_B, n)

    def __call__(self, rows_B: Tensor, weight_B: Tensor, n: int, first: bool) -> Tensor:
        """See `Loss`."""
        update, report, experience = self.update, self.context.report, self.context.experience
        reference_BCHW = None
        if update.kl_weight > 0:  # first: switching the adapter off clears requires_grad of what the next pass needs
            with torch.no_grad(), self.context.policy.reference():
                reference_BCHW = self._velocity(rows_B, n)
        velocity_BCHW = self._velocity(rows_B, n)
        rows_B = self._on_device(rows_B)
        old_BCHW = velocity_BCHW.detach() if first else self.old_NBCHW[n, rows_B]
        target_BCHW = self.target_NBCHW[n, rows_B]
        advantage_B = experience.advantage_KB[0, rows_B]  # of the image: sampling steps do not matter here
        loss_B = nft_loss(velocity_BCHW, old_BCHW, target_BCHW, advantage_B, update.advantage_clip, update.nft_beta)
        report.add("policy/velocity_error", mean_square(old_BCHW - target_BCHW), weight_B)
        report.add("policy/velocity_change", mean_square(velocity_BCHW - old_BCHW), weight_B)
        if reference_BCHW is not None:
            kl_B = mean_square(velocity_BCHW - reference_BCHW)
            loss_B = loss_B + update.divergence(self.context, kl_B, rows_B, weight_B, 0)
        return loss_B * clean_error_weight(old_BCHW, target_BCHW, self.times_N[n])

    def _velocity(self, rows_B: Tensor, n: int) -> Tensor:
        """Of the noised images, each under the condition it was sampled with: float32 [b, C, H, W]."""
        policy, sampler, time = self.context.policy, self.context.sampler, self.times_N[n]
        condition = self.context.experience.condition[rows_B].at(time)
        inputs = (self.state_NBCHW[n, self._on_device(rows_B)], torch.tensor(time), condition)
        return policy.predict(*inputs, sampler.negative, sampler.guidance_scale).float()

    def _on_device(self, rows_B: Tensor) -> Tensor:
        return to_device(rows_B, self.state_NBCHW.device)


def mean_square(difference_BCHW: Tensor) -> Tensor:
    """Mean over latent elements, [B]."""
    return difference_BCHW.square().flatten(1).mean(1)
