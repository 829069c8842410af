"""The other update: a policy learns from its own images noised anew, not from the steps that made them."""

from collections.abc import Iterator
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.rng import make_generator, normal_per_sample, sample_generators
from drift_pl.functional.forward_process import clean_error_weight, nft_loss, noised, stratified_times
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.rollout import Sampler
from drift_pl.training.experience import Experience, accumulate_gradients
from drift_pl.training.reporting import IterationReport


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
class ForwardUpdate:
    """DiffusionNFT's update (arXiv 2509.16117) on policy, with the divergence of the velocities if asked.

    Every image that counts is noised to `times` levels, and the loss is the mean over images and levels of

        w (nft_loss + kl_weight |v - v_reference|^2),        w = `clean_error_weight`.

    The old policy is the one that sampled this iteration's images (the paper's may lag behind further).

    Attributes:
        beta: how far the policy is held to the one that sampled, see `nft_loss`; without later steps on the same
            images nothing depends on it.
        times: noise levels per image.
        advantage_limit: A_max, see `nft_loss`.
        kl_weight: >= 0.
        skip_zero_advantage, inner_epochs, updates, micro_batch, max_grad_norm: see `ClippedUpdate`.
    """

    beta: float
    times: int
    advantage_limit: float
    kl_weight: float
    skip_zero_advantage: bool
    inner_epochs: int
    updates: int
    micro_batch: int
    max_grad_norm: float

    @property
    def keep(self) -> frozenset[str]:
        """What it needs of a rollout besides, see `rollout`."""
        return frozenset()

    def run(
        self,
        module: L.LightningModule,
        policy: Policy,
        sampler: Sampler,
        experience: Experience,
        counts_U: Tensor,
        report: IterationReport,
    ) -> Iterator[None]:
        """Yields after the gradients of each optimiser step have been accumulated, for the caller to step.

        Args:
            sampler: its guidance and negative condition are those of the policy's velocity.
            counts_U: images that count in each optimiser step, summed over all processes.
            report: receives the policy's health.
        """
        images = NoisedImages.draw(experience, self.times)
        old_NBCHW = self._old_velocities(policy, sampler, experience, images)
        for epoch in range(self.inner_epochs):
            for number, rows_B in enumerate(experience.shares(self.updates)):
                first = epoch == 0 and number == 0

                def loss(part_B: Tensor, weight_B: Tensor, n: int, first: bool = first) -> Tensor:
                    old_BCHW = None if first else old_NBCHW[n, part_B]
                    return self._loss(policy, sampler, experience, images, old_BCHW, part_B, n, weight_B, report)

                micro_batches = self._micro_batches(experience, rows_B)
                accumulate_gradients(module, micro_batches, [1.0] * self.times, float(counts_U[number]), loss)
                yield

    def _old_velocities(self, policy: Policy, sampler: Sampler, experience: Experience, images: NoisedImages) -> Tensor:
        """Of the policy as it is now, for all optimiser steps but the first, which begins at them: [N, B, C, H, W]."""
        old_NBCHW = torch.zeros_like(images.state_NBCHW)
        shares = experience.shares(self.updates)
        for rows_B in shares if self.inner_epochs > 1 else shares[1:]:
            for part_B, _ in self._micro_batches(experience, rows_B):
                for n in range(self.times):
                    with torch.no_grad():
                        old_NBCHW[n, part_B] = self._velocity(policy, sampler, experience, images, part_B, n)
        return old_NBCHW

    def _loss(
        self,
        policy: Policy,
        sampler: Sampler,
        experience: Experience,
        images: NoisedImages,
        old_BCHW: Tensor | None,
        rows_B: Tensor,
        n: int,
        weight_B: Tensor,
        report: IterationReport,
    ) -> Tensor:
        reference_BCHW = None
        if self.kl_weight > 0:  # first: switching the adapter off clears requires_grad of what the next pass needs
            with torch.no_grad(), policy.reference():
                reference_BCHW = self._velocity(policy, sampler, experience, images, rows_B, n)
        velocity_BCHW = self._velocity(policy, sampler, experience, images, rows_B, n)
        old_BCHW = velocity_BCHW.detach() if old_BCHW is None else old_BCHW
        target_BCHW = images.target_NBCHW[n, rows_B]
        advantage_B = experience.advantage_KB[0, rows_B]  # of the image: no sampling step has one of its own here
        loss_B = nft_loss(velocity_BCHW, old_BCHW, target_BCHW, advantage_B, self.advantage_limit, self.beta)
        report.add("policy/velocity_error", mean_square(old_BCHW - target_BCHW), weight_B)
        report.add("policy/velocity_change", mean_square(velocity_BCHW - old_BCHW), weight_B)
        if reference_BCHW is not None:
            kl_B = mean_square(velocity_BCHW - reference_BCHW)
            report.add("policy/kl", kl_B, weight_B)
            if experience.divergence_KB is not None:
                kl_B = kl_B * experience.divergence_KB[0, rows_B]
            loss_B = loss_B + self.kl_weight * kl_B
        return loss_B * clean_error_weight(old_BCHW, target_BCHW, images.times_N[n])

    def _velocity(
        self, policy: Policy, sampler: Sampler, experience: Experience, images: NoisedImages, rows_B: Tensor, n: int
    ) -> Tensor:
        """Of the noised images, under the conditions that they were sampled under: float32 [b, C, H, W]."""
        time = images.times_N[n]
        condition = experience.condition[rows_B].at(time)
        inputs = (images.state_NBCHW[n, rows_B], torch.tensor(time), condition)
        return policy.predict(*inputs, sampler.negative, sampler.guidance_scale).float()

    def _micro_batches(self, experience: Experience, rows_B: Tensor) -> list[tuple[Tensor, Tensor]]:
        skip = self.skip_zero_advantage and self.kl_weight == 0
        return experience.micro_batches(rows_B, self.micro_batch, skip)


def mean_square(difference_BCHW: Tensor) -> Tensor:
    """Mean over latent elements, [B]."""
    return difference_BCHW.square().flatten(1).mean(1)
