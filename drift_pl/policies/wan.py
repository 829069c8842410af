"""Wan text-to-video: rectified flow on the latents of a video, with a multilingual T5 as text encoder."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import WanPipeline
from torch import Tensor, nn

from drift_pl.core.errors import UserError
from drift_pl.core.types import Condition
from drift_pl.policies.flow import FlowPolicy, euler_scheduler
from drift_pl.policies.inputs import checked_length, checked_side, masked_condition, same_for_all
from drift_pl.policies.protocol import Adapter

LONGEST_TEXT = 512
HEIGHT, WIDTH = 480, 832
"""Of the videos that the smallest model was trained on, in pixels; others have these proportions."""


class WanPolicy(FlowPolicy):
    """Wan 2.1, and the models of Wan 2.2 with one network (arXiv 2503.20314). See `PipelinePolicy` for its arguments.

    Latents have an axis of frames: [B, C, F, H, W]. `decode` lays a video's frames side by side, [B, 3, H, frames x W],
    and what scores or embeds a video takes them apart again (`scoring/frames.py`).

    `resolution` is the height; the width is in proportion, 832 to 480. Text: `max_sequence_length` tokens, 1 to 512, to
    which shorter texts are padded with zeros that the network attends to, so the length changes videos; the models were
    trained with 512.

    The folder's solver, of whatever class, becomes Euler's with the same time shift; a full export contains that one.
    `policy.lora.targets` has no `add_*` layers here: use [to_q, to_k, to_v, to_out.0].

    Args:
        frames: of a decoded video: 1, or 1 more than a multiple of the autoencoder's own (4).

    Raises:
        UserError: another number of frames.
    """

    family = "wan"
    pipeline_class = WanPipeline
    sized_part = "text_encoder"

    def __init__(
        self,
        pipeline: Any,
        adapter: Adapter,
        resolution: int | None = None,
        max_sequence_length: int = LONGEST_TEXT,
        text_encoder_device: str | None = None,
        offload: bool = False,
        frames: int = 1,
    ) -> None:
        factor = pipeline.vae.config.scale_factor_temporal
        if (frames - 1) % factor:
            works = (frames - 1) // factor * factor + 1
            raise UserError(f"policy.frames={frames} is not 1 more than a multiple of {factor}: use e.g. {works}")
        self.frames = frames
        self._latent_frames = (frames - 1) // factor + 1
        super().__init__(pipeline, adapter, resolution, max_sequence_length, text_encoder_device, offload)

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        """Prompts as T5's last hidden states, [B, L, E], with zeros after each prompt's own tokens.

        Raises:
            UserError: a text length that the model does not take.
        """
        checked_length(self.max_sequence_length, LONGEST_TEXT)
        self.expect_prompts(prompts)
        with torch.no_grad():
            tokens_BLE, _ = self.pipeline.encode_prompt(
                list(prompts),
                do_classifier_free_guidance=False,
                device=self.text_device,
                max_sequence_length=self.max_sequence_length,
            )
        return masked_condition(tokens_BLE, tokens_BLE.any(-1), self.max_sequence_length)

    def sigmas(self, num_steps: int) -> Tensor:
        return self._own_grid(num_steps)

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        dtype = self.dtype
        timestep = float(sigma * self.pipeline.scheduler.config.num_train_timesteps)
        velocity: Tensor = self.network(
            hidden_states=latents_BCHW.to(dtype),
            timestep=same_for_all(timestep, latents_BCHW),
            encoder_hidden_states=condition.tokens_BLE.to(dtype),
            return_dict=False,
        )[0]
        return velocity

    def _decoded(self, latents_BCHW: Tensor) -> Tensor:
        """The frames side by side."""
        return super()._decoded(latents_BCHW).movedim(2, 3).flatten(3)

    def blocks(self) -> Iterator[nn.Module]:
        yield from self.network.blocks

    def _latent_shape(self, resolution: int | None) -> tuple[int, ...]:
        factor, patch = self.pipeline.vae.config.scale_factor_spatial, self.network.config.patch_size[-1]
        unit = factor * patch
        height = checked_side(resolution or HEIGHT, unit)
        width = max(1, round(height * WIDTH / HEIGHT / unit)) * unit
        return self.network.config.in_channels, self._latent_frames, height // factor, width // factor

    @classmethod
    def prepare(cls, pipeline: Any) -> Any:
        if pipeline.transformer_2 is not None or pipeline.config.boundary_ratio is not None:
            raise ValueError("it has a network for each half of the noise levels (Wan 2.2 A14B); use Wan 2.1 or 2.2 5B")
        pipeline.scheduler = euler_scheduler(pipeline.scheduler)
        return pipeline
