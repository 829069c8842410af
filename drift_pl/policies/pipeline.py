"""What policies made of a diffusers pipeline have in common: loading, the adapter, guidance, resolutions."""

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import DiffusionPipeline
from diffusers.training_utils import cast_training_params
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn

from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.locate import load_pretrained
from drift_pl.core.types import Condition
from drift_pl.policies.adapter import Adapter, LoraAdapter
from drift_pl.policies.full import FullTuning, read_weights
from drift_pl.policies.loading import loading_options
from drift_pl.policies.lora import attach_lora, load_lora


class PipelinePolicy(ABC):
    """A diffusers pipeline with an adapter on its denoiser. Families say how it is conditioned, stepped and decoded.

    Args:
        pretrained: hub id, folder or pkg:PACKAGE/FOLDER in diffusers' format.
        rank, alpha, targets: the adapter, see `attach_lora`.
        seed: of the adapter's initial weights.
        resolution: image height and width in pixels; None for the model's own.
        max_sequence_length: tokens per prompt of a text encoder without a fixed length (T5); 0 leaves it out, where a
            family allows that.
        gradient_checkpointing: recompute activations in the backward pass.
        compile: torch.compile the denoiser's blocks.
        warm_start: hub id, file or folder of a LoRA in diffusers' format to start from; None for a fresh one.
        tuning: `lora`, or `full`: all weights of the denoiser, see `FullTuning`; the adapter's arguments are ignored.
        reference_device: where the frozen copy of full fine-tuning lives, `device` or `cpu`.
        text_encoder_device: where the text encoders compute, whatever `to` is told, e.g. `cpu`; None to let them move
            with the rest. Each text is encoded once in a run.
        dtype, quantisation: of the frozen weights, see `loading_options`; the adapter is float32 in any case.

    Attributes:
        family: name in `policy.family`.
        pipeline_class: what `pretrained` must hold.
        denoiser: the pipeline's name of the network that trains.
        text_parts: the pipeline's names of its text encoders.
        optional_parts: parts that a pipeline folder may lack.
        guidance_offset: what the pipeline's own `guidance_scale` is more than ours for the same images.
        load_options: further arguments of the pipeline; a part that is None here is not loaded.
        network, latent_shape: see `Policy`.
        adapter: what trains of the network.

    Raises:
        UserError: nothing loadable at `pretrained`, or a resolution that the model cannot make.
    """

    family: ClassVar[str]
    pipeline_class: ClassVar[type[DiffusionPipeline]]
    denoiser: ClassVar[str] = "transformer"
    text_parts: ClassVar[tuple[str, ...]] = ("text_encoder",)
    optional_parts: ClassVar[tuple[str, ...]] = ()
    guidance_offset: ClassVar[float] = 0.0
    load_options: ClassVar[Mapping[str, Any]] = {}

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
        tuning: str = "lora",
        reference_device: str = "device",
        text_encoder_device: str | None = None,
        dtype: str | None = None,
        quantisation: str | None = None,
    ) -> None:
        load = partial(self._load_pipeline, **loading_options(dtype, quantisation, self.denoiser))
        with naming("policy.pretrained"):
            self.pipeline = load_pretrained(load, pretrained)
        self._text_encoder_device = text_encoder_device
        self.network: nn.Module = getattr(self.pipeline, self.denoiser)
        self.max_sequence_length = max_sequence_length
        for part in self._frozen_parts():
            part.requires_grad_(False).eval()
        self.adapter: Adapter
        if tuning == "full":
            self.adapter = FullTuning(self.network, self._original_weights(pretrained), reference_device)
        else:
            attach_lora(self.network, rank, alpha, targets, seed)
            cast_training_params(self.network, torch.float32)  # an adapter of half precision would lose small steps
            if warm_start is not None:
                with naming("policy.lora.pretrained"):
                    loaded = load_pretrained(self._load_lora, warm_start)
                load_lora(self.network, *loaded, self.denoiser)
            self.adapter = LoraAdapter(self.network)
        self.network.eval()  # no dropout: rollout and replay must compute the same thing
        if gradient_checkpointing:
            self.network.enable_gradient_checkpointing()
        if compile:
            for block in self._blocks():
                block.compile()
        with naming("policy.resolution"):
            self.latent_shape = self._latent_shape(resolution)

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Encoded prompts, one row each, exactly as the pipeline itself conditions on them; without gradient."""

    @abstractmethod
    def sigmas(self, num_steps: int) -> Tensor:
        """Noise levels of a sampling grid, float32 [T + 1], falling."""

    @abstractmethod
    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Images in [0, 1], float32 [B, 3, H, W]; never in tiles, whose seams would be scored."""

    @abstractmethod
    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """What the network says at one noise level, float [B, C, H, W]."""

    @abstractmethod
    def _blocks(self) -> Iterator[nn.Module]:
        """The parts of the network that are worth compiling, one by one."""

    @abstractmethod
    def _latent_shape(self, resolution: int | None) -> tuple[int, int, int]:
        """(C, H, W) of the latents of an image of this height and width.

        Raises:
            UserError: the model cannot make it.
        """

    def predict(
        self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition, negative: Condition, guidance_scale: float
    ) -> Tensor:
        """Guided prediction; both branches in one batch (see `Policy.predict`)."""
        if guidance_scale == 1:
            return self._unguided(latents_BCHW, sigma, condition)
        size = len(condition)
        both = Condition.concatenate([negative.repeat_interleave(size), condition])
        without, with_prompt = self._unguided(torch.cat([latents_BCHW, latents_BCHW]), sigma, both).chunk(2)
        return without + guidance_scale * (with_prompt - without)

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.adapter.trainable_parameters()

    def reference(self) -> AbstractContextManager[None]:
        return self.adapter.reference()

    def adapter_scale(self, scale: float) -> AbstractContextManager[None]:
        return self.adapter.scaled(scale)

    @contextmanager
    def at_resolution(self, resolution: int | None) -> Iterator[None]:
        """Within it images have another height and width, in pixels; None changes nothing."""
        before = self.latent_shape
        if resolution is not None:
            with naming("evaluation.resolution"):
                self.latent_shape = self._latent_shape(resolution)
        try:
            yield
        finally:
            self.latent_shape = before

    def to(self, device: torch.device | str) -> Self:
        self.pipeline.vae.to(device)
        for part in self._text_encoders():
            part.to(device if self._text_encoder_device is None else self._text_encoder_device)
        return self

    @property
    def text_device(self) -> torch.device:
        """Where prompts are encoded."""
        return next(self._text_encoders()[0].parameters()).device

    def _text_encoders(self) -> list[Any]:
        parts = (getattr(self.pipeline, name) for name in self.text_parts)
        return [part for part in parts if part is not None]

    def _frozen_parts(self) -> list[Any]:
        """The autoencoder and the text encoders that there are."""
        return [self.pipeline.vae, *self._text_encoders()]

    def _original_weights(self, pretrained: str) -> Callable[[], dict[str, Tensor]]:
        """What reads the denoiser's weights once more, in the dtype that they have now."""
        network: Any = self.network
        kind, dtype = type(network), network.dtype

        def read(location: str) -> dict[str, Tensor]:
            return read_weights(kind, location, self.denoiser, dtype)

        def original() -> dict[str, Tensor]:
            with naming("policy.pretrained"):
                return load_pretrained(read, pretrained)

        return original

    def _warn_of_spelled_words(self, prompts: Sequence[str]) -> None:
        """A word that the tokenizer can only spell letter by letter was never learnt: say so."""
        tokenizer = self.pipeline.tokenizer
        words = sorted({word for prompt in prompts for word in prompt.lower().split() if word.isalpha()})
        spelled = [word for word in words if len(word) > 3 and len(tokenizer.tokenize(word)) == len(word)]
        if spelled:
            warnings.warn(f"unknown to the model's tokenizer, may be ignored: {', '.join(spelled)}", stacklevel=2)

    @classmethod
    def _load_lora(cls, location: str) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
        """Weights and config of a LoRA in diffusers' format, from safetensors only."""
        weights, metadata = cls.pipeline_class.lora_state_dict(
            location, use_safetensors=True, return_lora_metadata=True
        )
        return weights, metadata

    @classmethod
    def _load_pipeline(cls, location: str, **options: Any) -> Any:
        """Loads a pipeline; parts that its index lists as null are passed as None, as diffusers wants it.

        Args:
            options: further arguments of `from_pretrained`.
        """
        diffusers_logging.disable_progress_bar()  # of loading from disk; downloads from the hub keep theirs
        absent: dict[str, None] = {}
        index = Path(location) / "model_index.json"
        if Path(location).exists():
            if not index.is_file():
                raise OSError("model_index.json is missing: this is not a diffusers pipeline folder")
            entries = json.loads(index.read_text())
            expected = cls.pipeline_class.__name__
            if entries.get("_class_name") != expected:
                raise ValueError(
                    f"it holds a {entries.get('_class_name')}, and policy.family={cls.family} needs a {expected}"
                )
            absent = {part: None for part in cls.optional_parts if entries.get(part, [None, None])[0] is None}
        return cls.pipeline_class.from_pretrained(location, **absent, **cls.load_options, **options)


def checked_side(side: int, unit: int) -> int:
    """The height and width of an image, if they are a multiple of what the model works in.

    Raises:
        UserError: they are not; the message names the nearest that is.
    """
    if side % unit:
        raise UserError(f"{named(side)} is not a multiple of {unit}: use e.g. {side // unit * unit or unit}")
    return side
