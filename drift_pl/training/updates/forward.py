"""A policy learns from its own images noised anew, not from the steps that made them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.rng import make_generator, normal_per_sample, sample_generators
from drift_pl.functional.forward_process import clean_error_weight, nft_loss, noised, stratified_times
from drift_pl.training.experience import Experience
from drift_pl.training.updates.passes import Passes
from drift_pl.training.updates.protocol import UpdateContext


@dataclass(frozen=True)
class NoisedImages:
    """An iteration's images, each noised anew to N levels: functions of (seed, iteration, sample).

    Attributes:
        times_N: noise levels, the same for all images.
        state_NBCHW: the noised latents.
        target_NBCHW: their velocities.
    """

    times_N: list[float]
    state_NBCHW: Tensor
    target_NBCHW: Tensor

    @classmethod
    def draw(cls, experience: Experience, times: int) -> "NoisedImages":
        """Every image with noise of its own at every level."""
        clean_BCHW = experience.trajectory.final_BCHW
        times_N = stratified_times(times, make_generator("forward_times", *experience.key))
        generators = sample_generators("forward_noise", *experience.key, samples=experience.samples)
        noise_BNCHW = normal_per_sample(generators, (times, *clean_BCHW.shape[1:]), clean_BCHW.device)
        pairs = [noised(clean_BCHW, noise_BNCHW[:, n], time) for n, time in enumerate(times_N)]
        states, targets = zip(*pairs, strict=True)
        return cls(times_N, torch.stack(states), torch.stack(targets))


@dataclass(frozen=True)
class ForwardUpdate(Passes):
    """DiffusionNFT's update (arXiv 2509.16117) on policy, with the divergence of the velocities if asked.

    Every image that counts is noised to `nft_times` levels, and the loss is the mean over images and levels of

        w (nft_loss + kl_weight |v - v_reference|^2),        w = `clean_error_weight`.

    The old policy is the one that sampled this iteration's images (the paper's may lag behind further).

    Attributes:
        nft_times: noise levels per image.
        nft_beta: how far the policy is held to the one that sampled, see `nft_loss`; without later steps on the same
            images nothing depends on it.
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
        images = NoisedImages.draw(context.experience, self.nft_times)
        loss = VelocityLoss(self, context, images, torch.zeros_like(images.state_NBCHW))
        loss.remember_old_velocities()
        return loss


@dataclass(frozen=True)
class VelocityLoss:
    """The loss of one run; its passes are the noise levels.

    Attributes:
        images: the iteration's images, noised.
        old_NBCHW: velocities of the policy that sampled, where a later optimiser step needs them.
    """

    update: ForwardUpdate
    context: UpdateContext
    images: NoisedImages
    old_NBCHW: Tensor

    @property
    def factors(self) -> list[float]:
        """Every noise level weighs the same."""
        return [1.0] * len(self.images.times_N)

    @torch.no_grad()
    def remember_old_velocities(self) -> None:
        """Of the policy as it is now, for all optimiser steps but the first, at which it has not changed."""
        experience = self.context.experience
        shares = experience.shares(self.update.updates)
        for rows_B in shares if self.update.inner_epochs > 1 else shares[1:]:
            for part_B, _ in self.update.micro_batches(experience, rows_B, first=False):
                for n in range(len(self.images.times_N)):
                    self.old_NBCHW[n, part_B] = self._velocity(part_B, n)

    def __call__(self, rows_B: Tensor, weight_B: Tensor, n: int, first: bool) -> Tensor:
        """See `Loss`."""
        update, report, experience = self.update, self.context.report, self.context.experience
        reference_BCHW = None
        if update.kl_weight > 0:  # first: switching the adapter off clears requires_grad of what the next pass needs
            with torch.no_grad(), self.context.policy.reference():
                reference_BCHW = self._velocity(rows_B, n)
        velocity_BCHW = self._velocity(rows_B, n)
        old_BCHW = velocity_BCHW.detach() if first else self.old_NBCHW[n, rows_B]
        target_BCHW = self.images.target_NBCHW[n, rows_B]
        advantage_B = experience.advantage_KB[0, rows_B]  # of the image: no sampling step has one of its own here
        loss_B = nft_loss(velocity_BCHW, old_BCHW, target_BCHW, advantage_B, update.advantage_clip, update.nft_beta)
        report.add("policy/velocity_error", mean_square(old_BCHW - target_BCHW), weight_B)
        report.add("policy/velocity_change", mean_square(velocity_BCHW - old_BCHW), weight_B)
        if reference_BCHW is not None:
            kl_B = mean_square(velocity_BCHW - reference_BCHW)
            loss_B = loss_B + update.divergence(self.context, kl_B, rows_B, weight_B, 0)
        return loss_B * clean_error_weight(old_BCHW, target_BCHW, self.images.times_N[n])

    def _velocity(self, rows_B: Tensor, n: int) -> Tensor:
        """Of the noised images, under the conditions that they were sampled under: float32 [b, C, H, W]."""
        policy, sampler, time = self.context.policy, self.context.sampler, self.images.times_N[n]
        condition = self.context.experience.condition[rows_B].at(time)
        inputs = (self.images.state_NBCHW[n, rows_B], torch.tensor(time), condition)
        return policy.predict(*inputs, sampler.negative, sampler.guidance_scale).float()


def mean_square(difference_BCHW: Tensor) -> Tensor:
    """Mean over latent elements, [B]."""
    return difference_BCHW.square().flatten(1).mean(1)
