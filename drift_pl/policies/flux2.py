"""FLUX.2 [klein]: rectified flow on patches of latents, with an LLM as text encoder."""

from collections.abc import Iterator, Sequence

import torch
from diffusers import Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from drift_pl.core.errors import UserError
from drift_pl.core.types import Condition
from drift_pl.policies.flow import FlowPolicy
from drift_pl.policies.inputs import as_chat, checked_length, checked_side, same_for_all

PATCH = 2
"""The autoencoder's latents per token along each axis. Latents here are those of tokens: [4 C, H / 2, W / 2]."""

LONGEST_TEXT = 512


class Flux2KleinPolicy(FlowPolicy):
    """FLUX.2 [klein] of any size, base and distilled. See `PipelinePolicy` for its arguments.

    Guidance: the base models have classifier-free guidance; a distilled one takes none, so any scale but 1 is refused.

    `max_sequence_length` is the length that texts are padded to, 1 to 512; the network attends to the padding, so the
    length changes images. The models were trained with 512.

    The noise levels depend on the resolution and on the number of steps.

    `policy.lora.targets`: the default ones adapt the double-stream blocks only; those of the single-stream blocks are
    `to_qkv_mlp_proj` and `attn.to_out`.
    """

    family = "flux2_klein"
    pipeline_class = Flux2KleinPipeline
    sized_part = "text_encoder"

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        """Prompts as hidden states of three layers of the LLM, side by side: [B, L, 3 E].

        Raises:
            UserError: a text length that the model does not take.
        """
        checked_length(self.max_sequence_length, LONGEST_TEXT)
        self.expect_prompts(prompts)
        with torch.no_grad():
            tokens_BLE, _ = self.pipeline.encode_prompt(
                prompt=list(prompts), device=self.text_device, max_sequence_length=self.max_sequence_length
            )
        num_tokens, width = tokens_BLE.shape[1:]
        return Condition(tokens_BLE, None, torch.full((num_tokens,), width, device=tokens_BLE.device))

    def _as_read(self, prompt: str) -> str:
        return as_chat(self.pipeline.tokenizer, prompt, thinking=False)

    def sigmas(self, num_steps: int) -> Tensor:
        """Noise levels of the pipeline for images of `latent_shape`, float32 [T + 1]; the time shift is in them."""
        return self._shifted(torch.linspace(1.0, 1 / num_steps, num_steps).tolist(), self._num_tokens)

    def _shift(self, num_image_tokens: int, num_steps: int) -> float:
        return compute_empirical_mu(num_image_tokens, num_steps)

    @property
    def _num_tokens(self) -> int:
        return self.latent_shape[-2] * self.latent_shape[-1]

    def predict(
        self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition, negative: Condition, guidance_scale: float
    ) -> Tensor:
        """Guided velocity (see `Policy.predict`).

        Raises:
            UserError: a guidance scale for a distilled model.
        """
        if self.pipeline.config.is_distilled and guidance_scale != 1:
            raise UserError(
                f"policy.guidance_scale={guidance_scale}: this model is distilled and takes no guidance; set "
                "policy.guidance_scale=1, and sampler.eval_guidance_scale=null or 1, or train a base model"
            )
        return super().predict(latents_BCHW, sigma, condition, negative, guidance_scale)

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        dtype, device, size = self.dtype, latents_BCHW.device, latents_BCHW.shape[-2:]
        text, one = torch.arange(condition.tokens_BLE.shape[1], device=device), torch.arange(1, device=device)
        rows, columns = (torch.arange(side, device=device) for side in size)
        velocity_BNC = self.network(
            hidden_states=latents_BCHW.flatten(2).transpose(1, 2).to(dtype),
            timestep=same_for_all(float(sigma), latents_BCHW),
            guidance=None,
            encoder_hidden_states=condition.tokens_BLE.to(dtype),
            txt_ids=torch.cartesian_prod(one, one, one, text),
            img_ids=torch.cartesian_prod(one, rows, columns, one),
            return_dict=False,
        )[0]
        return velocity_BNC.transpose(1, 2).unflatten(2, size)

    def _centred(self, latents_BCHW: Tensor) -> Tensor:
        """By mean and variance of a batch norm, which has a channel for each of a token's."""
        norm, epsilon = self.pipeline.vae.bn, self.pipeline.vae.config.batch_norm_eps
        mean_C11, variance_C11 = (values.float().view(-1, 1, 1) for values in (norm.running_mean, norm.running_var))
        return pixel_shuffle(latents_BCHW.float() * (variance_C11 + epsilon).sqrt() + mean_C11, PATCH)

    def blocks(self) -> Iterator[nn.Module]:
        yield from self.network.transformer_blocks
        yield from self.network.single_transformer_blocks

    def _latent_shape(self, resolution: int | None) -> tuple[int, ...]:
        unit = self.pipeline.vae_scale_factor * PATCH
        side = checked_side(resolution or self.pipeline.default_sample_size * self.pipeline.vae_scale_factor, unit)
        return self.network.config.in_channels, side // unit, side // unit
