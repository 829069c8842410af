"""Rectified-flow policies: Stable Diffusion 3 and 3.5 pipeline folders."""

import copy
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn

from drift_pl.errors import UserError
from drift_pl.locate import load_pretrained
from drift_pl.policies.lora import attach_lora, load_lora, lora_scaled, lora_switched_off, trainable_parameters
from drift_pl.types import Condition


class StableDiffusion3Policy:
    """A Stable-Diffusion-3-format pipeline with a LoRA on its transformer (arXiv 2403.03206).

    Args:
        pretrained: hub id, folder or pkg:PACKAGE/FOLDER in diffusers' format, with or without T5.
        rank, alpha, targets: the adapter, see `attach_lora`.
        seed: of the adapter's initial weights.
        resolution: image height and width in pixels; None for the model's own.
        max_sequence_length: T5 tokens per prompt; 0 leaves them, and the zeros that stand in for them, out.
        gradient_checkpointing: recompute activations in the backward pass.
        compile: torch.compile the transformer's blocks.
        warm_start: hub id, file or folder of a LoRA in diffusers' format to start from; None for a fresh one.

    Raises:
        UserError: nothing loadable at `pretrained`, or a resolution that the model cannot make.
    """

    def __init__(
        self,
        pretrained: str,
        rank: int,
        alpha: int,
        targets: Sequence[str],
        seed: int = 0,
        resolution: int | None = None,
        max_sequence_length: int = 256,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        warm_start: str | None = None,
    ) -> None:
        self.pipeline = load_pretrained(_load_pipeline, pretrained, "policy.pretrained")
        self.network: nn.Module = self.pipeline.transformer
        self.max_sequence_length = max_sequence_length
        for part in (self.pipeline.vae, *self._text_encoders()):
            part.requires_grad_(False).eval()
        attach_lora(self.network, rank, alpha, targets, seed)
        if warm_start is not None:
            load_lora(self.network, *load_pretrained(_load_lora, warm_start, "policy.lora.pretrained"))
        self.network.eval()  # no dropout: rollout and replay must compute the same thing
        if gradient_checkpointing:
            self.network.enable_gradient_checkpointing()
        if compile:
            for block in self.network.transformer_blocks:
                block.compile()
        self.latent_shape = self._latent_shape(resolution, "policy.resolution")

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Encoded prompts, one row each, exactly as the pipeline itself conditions on them."""
        self._warn_of_spelled_words(prompts)
        with torch.no_grad():
            tokens_BLE, _, pooled_BE, _ = self.pipeline.encode_prompt(
                prompt=list(prompts),
                prompt_2=None,
                prompt_3=None,
                do_classifier_free_guidance=False,
                max_sequence_length=self.max_sequence_length,
                device=self.pipeline.vae.device,
            )
        return Condition(tokens_BLE, pooled_BE, self._written_channels(tokens_BLE))

    def sigmas(self, num_steps: int) -> Tensor:
        """Noise levels of the model's own scheduler, float32 [T + 1]; the time shift is in them."""
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        scheduler.set_timesteps(num_steps)
        return scheduler.sigmas.float().cpu()

    def predict(
        self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition, negative: Condition, guidance_scale: float
    ) -> Tensor:
        """Guided velocity; both branches in one batch (see `Policy.predict`)."""
        if guidance_scale == 1:
            return self._velocity(latents_BCHW, sigma, condition)
        size = len(condition)
        both = Condition.concatenate([negative.repeat_interleave(size), condition])
        velocity_2B = self._velocity(torch.cat([latents_BCHW, latents_BCHW]), sigma, both)
        without, with_prompt = velocity_2B.chunk(2)
        return without + guidance_scale * (with_prompt - without)

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Images in [0, 1]; the autoencoder runs in its own dtype and never in tiles (seams would be scored)."""
        vae = self.pipeline.vae
        scaled = latents_BCHW.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        with torch.no_grad(), torch.autocast(scaled.device.type, enabled=False):
            images = vae.decode(scaled, return_dict=False)[0]
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return trainable_parameters(self.network)

    def reference(self) -> AbstractContextManager[None]:
        return lora_switched_off(self.network)

    def adapter_scale(self, scale: float) -> AbstractContextManager[None]:
        return nullcontext() if scale == 1 else lora_scaled(self.network, scale)

    @contextmanager
    def at_resolution(self, resolution: int | None) -> Iterator[None]:
        """Within it images have another height and width, in pixels; None changes nothing."""
        before = self.latent_shape
        self.latent_shape = before if resolution is None else self._latent_shape(resolution, "evaluation.resolution")
        try:
            yield
        finally:
            self.latent_shape = before

    def to(self, device: torch.device | str) -> "StableDiffusion3Policy":
        for part in (self.pipeline.vae, *self._text_encoders()):
            part.to(device)
        return self

    def _velocity(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        timestep = sigma * self.pipeline.scheduler.config.num_train_timesteps
        dtype = self.network.dtype
        assert condition.pooled_BE is not None
        return self.network(
            hidden_states=latents_BCHW.to(dtype),
            timestep=timestep.to(latents_BCHW.device).expand(latents_BCHW.shape[0]),
            encoder_hidden_states=condition.tokens_BLE.to(dtype),
            pooled_projections=condition.pooled_BE.to(dtype),
            return_dict=False,
        )[0]

    def _text_encoders(self) -> list[Any]:
        pipeline = self.pipeline
        encoders = (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3)
        return [encoder for encoder in encoders if encoder is not None]

    def _written_channels(self, tokens_BLE: Tensor) -> Tensor:
        """CLIP tokens come first and fill the two CLIP widths; then T5's full width, or zeros where T5 is missing."""
        num_tokens, width = tokens_BLE.shape[1:]
        clip_tokens = self.pipeline.tokenizer.model_max_length
        clip_width = self.pipeline.text_encoder.config.hidden_size + self.pipeline.text_encoder_2.config.hidden_size
        written_L = torch.full((num_tokens,), 0 if self.pipeline.text_encoder_3 is None else width)
        written_L[:clip_tokens] = clip_width
        return written_L.to(tokens_BLE.device)

    def _latent_shape(self, resolution: int | None, key: str) -> tuple[int, int, int]:
        config, factor = self.network.config, self.pipeline.vae_scale_factor
        side = resolution or config.sample_size * factor
        unit = factor * config.patch_size
        if side % unit:
            raise UserError(f"{key}={side} is not a multiple of {unit}: use e.g. {side // unit * unit or unit}")
        largest = unit * config.pos_embed_max_size
        if side > largest:
            raise UserError(f"{key}={side} is more than this model's positions reach: use at most {largest}")
        return config.in_channels, side // factor, side // factor

    def _warn_of_spelled_words(self, prompts: Sequence[str]) -> None:
        """A word that the tokenizer can only spell letter by letter was never learnt: say so."""
        tokenizer = self.pipeline.tokenizer
        words = sorted({word for prompt in prompts for word in prompt.lower().split() if word.isalpha()})
        spelled = [word for word in words if len(word) > 3 and len(tokenizer.tokenize(word)) == len(word)]
        if spelled:
            warnings.warn(f"unknown to the model's tokenizer, may be ignored: {', '.join(spelled)}", stacklevel=2)


def _load_lora(location: str) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Weights and config of a LoRA in diffusers' format, from safetensors only."""
    weights, metadata = StableDiffusion3Pipeline.lora_state_dict(
        location, use_safetensors=True, return_lora_metadata=True
    )
    return weights, metadata


def _load_pipeline(location: str) -> StableDiffusion3Pipeline:
    """Loads a pipeline; parts that its index lists as null (T5, usually) are passed as None, as diffusers wants it."""
    diffusers_logging.disable_progress_bar()  # of loading from disk; downloads from the hub keep theirs
    absent: dict[str, None] = {}
    index = Path(location) / "model_index.json"
    if Path(location).exists():
        if not index.is_file():
            raise OSError("model_index.json is missing: this is not a diffusers pipeline folder")
        entries = json.loads(index.read_text())
        if entries.get("_class_name") != "StableDiffusion3Pipeline":
            raise ValueError(
                f"it holds a {entries.get('_class_name')}, and policy.family=sd3 needs a StableDiffusion3Pipeline"
            )
        optional = ("text_encoder_3", "tokenizer_3")
        absent = {part: None for part in optional if entries.get(part, [None, None])[0] is None}
    return StableDiffusion3Pipeline.from_pretrained(location, **absent)
