"""FLUX.1: guidance-distilled rectified flow on packed latents."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from diffusers import FluxPipeline
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from drift_pl.core.errors import UserError
from drift_pl.core.types import Condition
from drift_pl.policies.flow import FlowPolicy
from drift_pl.policies.inputs import checked_side, same_for_all

PATCH = 2
"""Latents per token along each axis."""

LONGEST_TEXT = 512


class FluxPolicy(FlowPolicy):
    """FLUX.1 [dev], [schnell] and models fine-tuned from them. See `PipelinePolicy` for its arguments.

    Guidance: [dev] was distilled to take the guidance scale as an input of the network, so there is one forward pass
    per step at every scale, and 1 is a scale like any other. [schnell] takes none: any scale but 1 is refused. Neither
    uses a negative prompt.

    `max_sequence_length` is the length that T5's tokens are padded to, 1 to 512; the network attends to the padding, so
    the length changes images. The models were trained with 512 [dev] and 256 [schnell].

    The noise levels of [dev] depend on the resolution; `sigmas` is for images of `latent_shape`.
    """

    family = "flux"
    pipeline_class = FluxPipeline
    text_parts = ("text_encoder", "text_encoder_2")
    sized_part = "text_encoder_2"

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        """Prompts as T5's tokens [B, L, E] and CLIP's pooled embedding [B, E'].

        Raises:
            UserError: a text length that the model does not take.
        """
        if not 1 <= self.max_sequence_length <= LONGEST_TEXT:
            raise UserError(
                f"policy.max_sequence_length={self.max_sequence_length}: FLUX takes 1 to {LONGEST_TEXT} tokens, e.g. "
                "512 (dev) or 256 (schnell)"
            )
        self.expect_prompts(prompts)
        with torch.no_grad():
            tokens_BLE, pooled_BE, _ = self.pipeline.encode_prompt(
                prompt=list(prompts), device=self.text_device, max_sequence_length=self.max_sequence_length
            )
        num_tokens, width = tokens_BLE.shape[1:]
        return Condition(tokens_BLE, pooled_BE, torch.full((num_tokens,), width, device=tokens_BLE.device))

    def sigmas(self, num_steps: int) -> Tensor:
        """Noise levels of the pipeline for images of `latent_shape`, float32 [T + 1]; the time shift is in them."""
        height, width = self.latent_shape[-2:]
        return self._shifted(np.linspace(1.0, 1 / num_steps, num_steps).tolist(), height * width // PATCH**2)

    def predict(
        self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition, negative: Condition, guidance_scale: float
    ) -> Tensor:
        """Velocity, with the guidance scale as an input of the network; `negative` is unused (see `Policy.predict`).

        Raises:
            UserError: the network takes no guidance, and the scale is not 1.
        """
        return self._velocity(latents_BCHW, sigma, condition, self._guidance_B(guidance_scale, latents_BCHW))

    def _guidance_B(self, guidance_scale: float, latents_BCHW: Tensor) -> Tensor | None:
        if self.network.config.guidance_embeds:
            return same_for_all(float(guidance_scale), latents_BCHW)
        if guidance_scale != 1:
            raise UserError(
                f"policy.guidance_scale={guidance_scale}: this model takes no guidance, like FLUX.1 [schnell]; set "
                "policy.guidance_scale=1, and sampler.eval_guidance_scale=null or 1"
            )
        return None

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        return self._velocity(latents_BCHW, sigma, condition, self._guidance_B(1.0, latents_BCHW))

    def _velocity(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition, guidance_B: Tensor | None) -> Tensor:
        dtype, device = self.dtype, latents_BCHW.device
        assert condition.pooled_BE is not None
        tokens_BNC = pack(latents_BCHW)
        height, width = latents_BCHW.shape[-2] // PATCH, latents_BCHW.shape[-1] // PATCH
        velocity_BNC = self.network(
            hidden_states=tokens_BNC.to(dtype),
            timestep=same_for_all(float(sigma), latents_BCHW),
            guidance=guidance_B,
            pooled_projections=condition.pooled_BE.to(dtype),
            encoder_hidden_states=condition.tokens_BLE.to(dtype),
            txt_ids=torch.zeros(condition.tokens_BLE.shape[1], 3, device=device),
            img_ids=image_positions(height, width, device),
            return_dict=False,
        )[0]
        return unpack(velocity_BNC, height, width)

    def blocks(self) -> Iterator[nn.Module]:
        yield from self.network.transformer_blocks
        yield from self.network.single_transformer_blocks

    def _latent_shape(self, resolution: int | None) -> tuple[int, ...]:
        factor = self.pipeline.vae_scale_factor
        side = checked_side(resolution or self.pipeline.default_sample_size * factor, factor * PATCH)
        return self.network.config.in_channels // PATCH**2, side // factor, side // factor


def pack(latents_BCHW: Tensor) -> Tensor:
    """Latents as tokens of 2 x 2, [B, H W / 4, 4 C]; a token's channels are (channel, row, column)."""
    return pixel_unshuffle(latents_BCHW, PATCH).flatten(2).transpose(1, 2)


def unpack(tokens_BNC: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack`, for an image of `height` x `width` tokens: [B, C / 4, 2 height, 2 width]."""
    return pixel_shuffle(tokens_BNC.transpose(1, 2).unflatten(2, (height, width)), PATCH)


def image_positions(height: int, width: int, device: torch.device) -> Tensor:
    """(0, row, column) of each token, float32 [height * width, 3]."""
    sides = (torch.arange(side, device=device) for side in (height, width))
    rows, columns = torch.meshgrid(*sides, indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1).float()
