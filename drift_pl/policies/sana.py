"""Sana: rectified flow with linear attention on the latents of a deep-compression autoencoder."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import SanaPipeline
from torch import Tensor, nn

from drift_pl.core.types import Condition
from drift_pl.policies.flow import FlowPolicy, euler_scheduler
from drift_pl.policies.inputs import checked_length, checked_side, masked_condition, same_for_all, valid_tokens

LONGEST_TEXT = 300
INSTRUCTION = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
"""What the pipeline tells its text encoder before a prompt, and not before a negative one."""


class SanaPolicy(FlowPolicy):
    """Sana 1.0 and 1.5 (arXiv 2410.10629). See `PipelinePolicy` for its arguments.

    `max_sequence_length` is the largest number of text tokens, 1 to 300, without those of the instruction that the
    text encoder reads before a prompt. Longer texts are cut; the network does not see padding.

    The folder's solver, of whatever class, becomes Euler's with the same time shift; a full export contains that one.
    `policy.lora.targets` has no `add_*` layers here: use [to_q, to_k, to_v, to_out.0].
    """

    family = "sana"
    pipeline_class = SanaPipeline
    sized_part = "text_encoder"

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        """Prompts as the LLM's last hidden states, [B, L, E], with zeros after each prompt's own tokens.

        Raises:
            UserError: a text length that the model does not take.
        """
        checked_length(self.max_sequence_length, LONGEST_TEXT)
        self.expect_prompts(prompts)
        with torch.no_grad():
            tokens_BLE, mask_BL, _, _ = self.pipeline.encode_prompt(
                list(prompts),
                do_classifier_free_guidance=False,
                device=self.text_device,
                max_sequence_length=self.max_sequence_length,
                complex_human_instruction=None if negative else INSTRUCTION,
            )
        return masked_condition(tokens_BLE, mask_BL, self.max_sequence_length)

    def sigmas(self, num_steps: int) -> Tensor:
        return self._own_grid(num_steps)

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        config, dtype = self.network.config, self.dtype
        tokens_BLE, mask_BL = valid_tokens(condition)
        timestep = sigma * self.pipeline.scheduler.config.num_train_timesteps * config.timestep_scale
        velocity_BCHW = self.network(
            latents_BCHW.to(dtype),
            encoder_hidden_states=tokens_BLE.to(dtype),
            encoder_attention_mask=mask_BL,
            timestep=same_for_all(float(timestep), latents_BCHW),
            return_dict=False,
        )[0]
        return velocity_BCHW[:, : latents_BCHW.shape[1]]  # some also predict a variance, which nobody uses

    def blocks(self) -> Iterator[nn.Module]:
        yield from self.network.transformer_blocks

    def _latent_shape(self, resolution: int | None) -> tuple[int, ...]:
        config, factor = self.network.config, self.pipeline.vae_scale_factor
        side = checked_side(resolution or config.sample_size * factor, factor * config.patch_size)
        return config.in_channels, side // factor, side // factor

    @classmethod
    def prepare(cls, pipeline: Any) -> Any:
        if pipeline.transformer.config.guidance_embeds:
            raise ValueError("its network takes the guidance scale as an input (Sana-Sprint); use Sana 1.0 or 1.5")
        pipeline.scheduler = euler_scheduler(pipeline.scheduler)
        return pipeline
