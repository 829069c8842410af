"""Qwen-Image: rectified flow on packed latents, with a vision-language model as text encoder."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import QwenImagePipeline
from torch import Tensor, nn
from torch.linalg import vector_norm

from drift_pl.core.types import Condition
from drift_pl.policies.flow import FlowPolicy
from drift_pl.policies.flux import PATCH, pack, unpack
from drift_pl.policies.inputs import checked_length, checked_side, masked_condition, same_for_all, valid_tokens

LONGEST_TEXT = 1024


class QwenImagePolicy(FlowPolicy):
    """Qwen-Image (arXiv 2508.02324). See `PipelinePolicy` for its arguments.

    Guidance keeps the norm that the prompt's own velocity has in every token, as the pipeline does
    (`true_cfg_scale`, which acts beside a negative prompt only).

    `max_sequence_length` is the largest number of text tokens, 1 to 1024, five of the chat template among them; longer
    texts are cut. Shorter ones are not padded: the network sees each prompt's own tokens.
    """

    family = "qwen_image"
    pipeline_class = QwenImagePipeline
    sized_part = "text_encoder"
    guidance_argument = "true_cfg_scale"
    has_unused_parameters = True  # the last block's text stream, of which nothing is read

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        """Prompts as the language model's last hidden states, [B, L, E], zeros after each prompt's own tokens.

        Raises:
            UserError: a text length that the model does not take.
        """
        checked_length(self.max_sequence_length, LONGEST_TEXT)
        self.expect_prompts(prompts)
        with torch.no_grad():
            tokens_BLE, mask_BL = self.pipeline.encode_prompt(
                prompt=list(prompts), device=self.text_device, max_sequence_length=self.max_sequence_length
            )
        return masked_condition(tokens_BLE, mask_BL, self.max_sequence_length)

    def _as_read(self, prompt: str) -> str:
        """The system's part of the template is dropped before texts are cut."""
        return prompt + self.pipeline.prompt_template_encode.partition("{}")[2]

    def sigmas(self, num_steps: int) -> Tensor:
        """Noise levels of the pipeline for images of `latent_shape`, float32 [T + 1]; the time shift is in them."""
        height, width = self.latent_shape[-2:]
        return self._shifted(torch.linspace(1.0, 1 / num_steps, num_steps).tolist(), height * width // PATCH**2)

    def _guided(self, without_BCHW: Tensor, with_prompt_BCHW: Tensor, guidance_scale: float) -> Tensor:
        height, width = without_BCHW.shape[-2] // PATCH, without_BCHW.shape[-1] // PATCH
        plain_BNC = pack(with_prompt_BCHW)
        mixed_BNC = pack(super()._guided(without_BCHW, with_prompt_BCHW, guidance_scale))
        norms = (vector_norm(tokens_BNC, dim=-1, keepdim=True) for tokens_BNC in (plain_BNC, mixed_BNC))
        return unpack(mixed_BNC * (next(norms) / next(norms)), height, width)

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        height, width = latents_BCHW.shape[-2] // PATCH, latents_BCHW.shape[-1] // PATCH
        dtype = self.dtype
        tokens_BLE, mask_BL = valid_tokens(condition)
        velocity_BNC = self.network(
            hidden_states=pack(latents_BCHW).to(dtype),
            timestep=same_for_all(float(sigma), latents_BCHW),
            encoder_hidden_states=tokens_BLE.to(dtype),
            encoder_hidden_states_mask=mask_BL,
            img_shapes=[[(1, height, width)]] * len(latents_BCHW),
            return_dict=False,
        )[0]
        return unpack(velocity_BNC, height, width)

    def _decoded(self, latents_BCHW: Tensor) -> Tensor:
        """The autoencoder's frames are an axis, of length 1 here."""
        return super()._decoded(latents_BCHW[:, :, None])[:, :, 0]

    def blocks(self) -> Iterator[nn.Module]:
        yield from self.network.transformer_blocks

    def _latent_shape(self, resolution: int | None) -> tuple[int, ...]:
        factor = self.pipeline.vae_scale_factor
        side = checked_side(resolution or self.pipeline.default_sample_size * factor, factor * PATCH)
        return self.network.config.in_channels // PATCH**2, side // factor, side // factor

    @classmethod
    def prepare(cls, pipeline: Any) -> Any:
        if pipeline.transformer.config.guidance_embeds:
            raise ValueError("its network takes the guidance scale as an input, as no published Qwen-Image does")
        return pipeline
