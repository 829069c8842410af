"""Rectified-flow policies: Stable Diffusion 3 and 3.5 pipeline folders."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift
from torch import Tensor, nn

from drift_pl.core.errors import UserError, named
from drift_pl.core.types import Condition
from drift_pl.policies.flow import FlowPolicy
from drift_pl.policies.inputs import checked_side, same_for_all


class StableDiffusion3Policy(FlowPolicy):
    """Stable Diffusion 3 and 3.5 (arXiv 2403.03206), with or without T5. See `PipelinePolicy` for its arguments.

    `max_sequence_length=0` leaves out T5's tokens, and the zeros that replace them without T5.
    """

    family = "sd3"
    pipeline_class = StableDiffusion3Pipeline
    text_parts = ("text_encoder", "text_encoder_2", "text_encoder_3")
    sized_part = "text_encoder_3"
    optional_parts = ("text_encoder_3", "tokenizer_3")

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        self.expect_prompts(prompts)
        with torch.no_grad():
            tokens_BLE, _, pooled_BE, _ = self.pipeline.encode_prompt(
                prompt=list(prompts),
                prompt_2=None,
                prompt_3=None,
                do_classifier_free_guidance=False,
                max_sequence_length=self.max_sequence_length,
                device=self.text_device,
            )
        return Condition(tokens_BLE, pooled_BE, self._written_channels(tokens_BLE))

    def sigmas(self, num_steps: int) -> Tensor:
        """Noise levels of the model's own scheduler, float32 [T + 1]; the time shift is in them.

        A scheduler with dynamic shifting shifts by the number of image tokens, as the pipeline does.
        """
        config = self.pipeline.scheduler.config
        shift = {"mu": self._dynamic_shift(config)} if config.get("use_dynamic_shifting") else {}
        return self._own_grid(num_steps, **shift)

    def _dynamic_shift(self, config: Mapping[str, Any]) -> float:
        """mu of the latents' size, with the pipeline's own defaults for what a scheduler's config lacks."""
        _, height, width = self.latent_shape
        patch = self.network.config.patch_size
        return calculate_shift(
            (height // patch) * (width // patch),
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.16),
        )

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        timestep = sigma * self.pipeline.scheduler.config.num_train_timesteps
        dtype = self.dtype
        assert condition.pooled_BE is not None
        return self.network(
            hidden_states=latents_BCHW.to(dtype),
            timestep=same_for_all(float(timestep), latents_BCHW),
            encoder_hidden_states=condition.tokens_BLE.to(dtype),
            pooled_projections=condition.pooled_BE.to(dtype),
            return_dict=False,
        )[0]

    def blocks(self) -> Iterator[nn.Module]:
        yield from self.network.transformer_blocks

    def _written_channels(self, tokens_BLE: Tensor) -> Tensor:
        """CLIP tokens come first and fill the two CLIP widths; then T5's full width, or zeros where T5 is missing."""
        num_tokens, width = tokens_BLE.shape[1:]
        clip_tokens = self.pipeline.tokenizer.model_max_length
        clip_width = self.pipeline.text_encoder.config.hidden_size + self.pipeline.text_encoder_2.config.hidden_size
        written_L = torch.full((num_tokens,), 0 if self.pipeline.text_encoder_3 is None else width)
        written_L[:clip_tokens] = clip_width
        return written_L.to(tokens_BLE.device)

    def _latent_shape(self, resolution: int | None) -> tuple[int, ...]:
        config, factor = self.network.config, self.pipeline.vae_scale_factor
        unit = factor * config.patch_size
        side = checked_side(resolution or config.sample_size * factor, unit)
        largest = unit * config.pos_embed_max_size
        if side > largest:
            raise UserError(f"{named(side)} exceeds this model's largest resolution: use at most {largest}")
        return config.in_channels, side // factor, side // factor
