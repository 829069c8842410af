"""Z-Image: a single-stream rectified flow with an LLM as text encoder."""

from collections.abc import Iterator, Sequence

import torch
from diffusers import ZImagePipeline
from torch import Tensor, nn

from drift_pl.core.errors import UserError, named
from drift_pl.core.types import Condition
from drift_pl.policies.flow import FlowPolicy
from drift_pl.policies.inputs import as_chat, checked_length, checked_side, padded_condition, same_for_all

PATCH = 2
"""Latents per token along each axis."""

TEXT_MULTIPLE = 32
"""The network pads each text to a multiple of this with a learned token."""

DEFAULT_SIDE = 1024
"""Default height and width of the pipeline's images in pixels; it is not in any config."""


class ZImagePolicy(FlowPolicy):
    """Z-Image and Z-Image-Turbo (arXiv 2511.22699). See `PipelinePolicy` for its arguments.

    Guidance: `guidance_scale` is g of v_negative + g (v_prompt - v_negative), as in every family. The pipeline's own
    `guidance_scale` is g - 1. The Turbo model is sampled without guidance (here 1, there 0).

    `max_sequence_length` is the largest number of text tokens (of the chat template too, about 10); longer texts are
    cut. Shorter ones are not padded: the network sees each prompt's own tokens, and a `Condition` says how many
    (`num_tokens_B`).

    `policy.lora.targets` has no `add_*` layers here: use [to_q, to_k, to_v, to_out.0].
    """

    family = "zimage"
    pipeline_class = ZImagePipeline
    sized_part = "text_encoder"
    guidance_offset = -1.0

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        """Prompts as the LLM's second-to-last hidden states, [B, L, E], with zeros after each prompt's own tokens.

        Raises:
            UserError: a text length that the model does not take.
        """
        # positions: 0 is padding's, the text's start at 1, and the image's is the one after the padded text
        largest = (self.network.config.axes_lens[0] - 2) // TEXT_MULTIPLE * TEXT_MULTIPLE
        checked_length(self.max_sequence_length, largest)
        self.expect_prompts(prompts)
        with torch.no_grad():
            rows, _ = self.pipeline.encode_prompt(
                prompt=list(prompts),
                device=self.text_device,
                do_classifier_free_guidance=False,
                max_sequence_length=self.max_sequence_length,
            )
        return padded_condition(rows, self.max_sequence_length)

    def _as_read(self, prompt: str) -> str:
        return as_chat(self.pipeline.tokenizer, prompt, thinking=True)

    def sigmas(self, num_steps: int) -> Tensor:
        """Noise levels of the pipeline for images of `latent_shape`, float32 [T + 1]; the time shift is in them."""
        height, width = self.latent_shape[-2:]
        return self._shifted(torch.linspace(1.0, 1 / num_steps, num_steps).tolist(), height * width // PATCH**2)

    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """The network's time is 1 - sigma, and it predicts x_0 - noise: the negative velocity."""
        assert condition.num_tokens_B is not None
        dtype = self.dtype
        lengths = condition.num_tokens_B.tolist()
        rows = [tokens_LE[:length] for tokens_LE, length in zip(condition.tokens_BLE.to(dtype), lengths, strict=True)]
        time_B = same_for_all(float(1 - sigma), latents_BCHW)
        images = list(latents_BCHW.to(dtype)[:, :, None].unbind(0))  # frames are an axis of the network's
        return -torch.stack(self.network(images, time_B, rows, return_dict=False)[0]).squeeze(2)

    def blocks(self) -> Iterator[nn.Module]:
        for blocks in (self.network.noise_refiner, self.network.context_refiner, self.network.layers):
            yield from blocks

    def _latent_shape(self, resolution: int | None) -> tuple[int, ...]:
        config, factor = self.network.config, self.pipeline.vae_scale_factor
        unit = factor * PATCH
        side = checked_side(resolution or DEFAULT_SIDE, unit)
        largest = unit * config.axes_lens[1]
        if side > largest:
            raise UserError(f"{named(side)} exceeds this model's largest resolution: use at most {largest}")
        return config.in_channels, side // factor, side // factor
