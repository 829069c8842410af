"""What updates by the forward process share: images of the iteration, noised again, and velocities of them.

Levers: they act on the image as a whole. Selection decides which images count, prompting under which condition an image
was sampled and is learnt, and shaping is part of its advantage; there are no steps to which a bonus could belong.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from drift_pl.core.rng import make_generator, normal_per_sample, sample_generators, to_device
from drift_pl.functional.forward_process import grid_levels, noised, stratified_times
from drift_pl.training.ema import Lag
from drift_pl.training.updates.passes import Passes
from drift_pl.training.updates.protocol import UpdateContext


@dataclass(frozen=True)
class NoisedImages:
    """The images of an iteration at several noise levels.

    Attributes:
        times_N: noise levels, the same for all images.
        state_NBCHW: the noised latents.
        target_NBCHW: their velocities.
    """

    context: UpdateContext
    times_N: list[float]
    state_NBCHW: Tensor
    target_NBCHW: Tensor

    def velocity(self, rows_B: Tensor, n: int) -> Tensor:
        """Of the policy of now, each image under its own condition, or the clean one: float32 [b, C, H, W]."""
        policy, sampler, time = self.context.policy, self.context.sampler, self.times_N[n]
        condition = self.context.experience.condition[rows_B].at(time)
        inputs = (self.state_NBCHW[n, self.on_device(rows_B)], torch.tensor(time), condition)
        return policy.predict(*inputs, sampler.negative, sampler.guidance_scale).float()

    @torch.no_grad()
    def reference_velocity(self, rows_B: Tensor, n: int) -> Tensor:
        """Of the model before fine-tuning."""
        with self.context.policy.reference():
            return self.velocity(rows_B, n)

    def on_device(self, rows_B: Tensor) -> Tensor:
        return to_device(rows_B, self.state_NBCHW.device)


class ForwardLoss:
    """What losses by the forward process share; their passes are the noise levels.

    Attributes:
        update, images: see `ForwardPasses.noised_images`.
    """

    update: "ForwardPasses"
    images: NoisedImages

    @property
    def factors(self) -> list[float]:
        """All noise levels have the same weight."""
        return [1.0] * len(self.images.times_N)

    def velocities(self, rows_B: Tensor, n: int) -> tuple[Tensor | None, Tensor, Tensor]:
        """Of the reference, None without a KL, and of the policy of now; and the rows, on the images' device."""
        # the reference first: switching the adapter off clears what a pass with gradient needs
        reference_BCHW = self.images.reference_velocity(rows_B, n) if self.update.kl_weight > 0 else None
        return reference_BCHW, self.images.velocity(rows_B, n), self.images.on_device(rows_B)

    def report_change(self, old_BCHW: Tensor, target_BCHW: Tensor, velocity_BCHW: Tensor, weight_B: Tensor) -> None:
        """How far the old policy's velocity is from the target, and the policy's own from that."""
        report = self.images.context.report
        report.add("policy/velocity_error", mean_square(old_BCHW - target_BCHW), weight_B)
        report.add("policy/velocity_change", mean_square((velocity_BCHW - old_BCHW).detach()), weight_B)


@dataclass(frozen=True, kw_only=True)
class ForwardPasses(Passes):
    """An update whose passes over the images are noise levels.

    Attributes:
        nft_times: noise levels per image.
        noise_levels: `uniform`, stratified over (0, 1), or `sampler`, levels of the rollout's grid (`grid_levels`).
        old_decay_rate, old_decay_max, old_decay_after: of the old policy, see `lag_decay`.
        inner_epochs, updates, micro_batch, skip_zero_advantage, kl_weight: see `Passes`.
    """

    nft_times: int
    noise_levels: str = "uniform"
    old_decay_rate: float = 0.001
    old_decay_max: float = 0.0
    old_decay_after: int = 0

    def _lag(self, samples: bool) -> Lag:
        return Lag(self.old_decay_rate, self.old_decay_max, self.old_decay_after, samples)

    def noised_images(self, context: UpdateContext) -> NoisedImages:
        """Noises every image to every level: a function of (seed, iteration, sample)."""
        batch, clean_BCHW = context.experience.batch, context.experience.trajectory.final_BCHW
        generator = make_generator("forward_times", *batch.key)
        if self.noise_levels == "sampler":
            times_N = grid_levels(self.nft_times, context.sampler.sigmas, generator)
        else:
            times_N = stratified_times(self.nft_times, generator)
        generators = sample_generators("forward_noise", *batch.key, samples=batch.samples)
        noise_BNCHW = normal_per_sample(generators, (self.nft_times, *clean_BCHW.shape[1:]), clean_BCHW.device)
        pairs = [noised(clean_BCHW, noise_BNCHW[:, n], time) for n, time in enumerate(times_N)]
        state_NBCHW, target_NBCHW = (torch.stack(part) for part in zip(*pairs, strict=True))
        return NoisedImages(context, times_N, state_NBCHW, target_NBCHW)

    @torch.no_grad()
    def velocities(self, images: NoisedImages, first_share: int = 0) -> Tensor:
        """Of the policy of now, float32 [N, B, C, H, W]; zeros for images that no optimizer step needs.

        Args:
            first_share: the first share of the images that needs them.
        """
        velocity_NBCHW = torch.zeros_like(images.state_NBCHW)
        for share in range(first_share, self.updates):
            for part_B, _ in self.passes(images.context, share, first=False):
                for n in range(len(images.times_N)):
                    velocity_NBCHW[n, images.on_device(part_B)] = images.velocity(part_B, n)
        return velocity_NBCHW

    def sampling_velocities(self, images: NoisedImages) -> Tensor:
        """Of the policy that sampled, which trains: for all optimizer steps but the first, at which it is the same."""
        return self.velocities(images, first_share=0 if self.inner_epochs > 1 else 1)


def mean_square(difference_BCHW: Tensor) -> Tensor:
    """Mean over latent elements, [B]."""
    return difference_BCHW.square().flatten(1).mean(1)
