"""What rectified-flow pipelines have in common: the shifted grid of noise levels, the autoencoder's scale."""

import copy
from collections.abc import Sequence

import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from drift_pl.policies.pipeline import PipelinePolicy


class FlowPolicy(PipelinePolicy):
    """A rectified-flow pipeline with an autoencoder of one scale and one shift. See `PipelinePolicy`."""

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Images in [0, 1]; the autoencoder runs in its own dtype and never in tiles (seams would be scored)."""
        vae = self.pipeline.vae
        scaled = latents_BCHW.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        with torch.no_grad(), torch.autocast(scaled.device.type, enabled=False):
            images = vae.decode(scaled, return_dict=False)[0]
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def _shifted(self, levels: Sequence[float], num_image_tokens: int) -> Tensor:
        """`levels` [T] as the model's own scheduler shifts them, and the 0 at the end: float32 [T + 1].

        Args:
            num_image_tokens: what a scheduler with dynamic shifting shifts by: the more tokens, the more noise
                (resolution-dependent shifting, arXiv 2403.03206). Others shift by a constant of theirs.
        """
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        config = scheduler.config
        mu = calculate_shift(
            num_image_tokens,
            config.base_image_seq_len,
            config.max_image_seq_len,
            config.base_shift,
            config.max_shift,
        )
        scheduler.set_timesteps(sigmas=list(levels), mu=mu)
        return scheduler.sigmas.float().cpu()
