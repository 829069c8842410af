"""Base class of policies from a diffusers pipeline: guidance, decoding, the adapter, resolutions."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from drift_pl.core.answers import of_shape
from drift_pl.core.errors import naming
from drift_pl.core.types import Condition
from drift_pl.policies.encoder_key import text_encoders_key
from drift_pl.policies.frozen_parts import FrozenParts
from drift_pl.policies.inputs import per_channel
from drift_pl.policies.process import Process
from drift_pl.policies.prompt_warnings import PromptWarnings
from drift_pl.policies.protocol import Adapter
from drift_pl.policies.sharding import shard


class PipelinePolicy(FrozenParts, PromptWarnings, ABC):
    """A diffusers pipeline whose denoiser trains. A family is a subclass; `load_policy` loads one from a folder.

    A subclass describes its pipeline (class attributes) and implements conditioning and calls (abstract methods); it
    overrides `prepare` and `read_lora` if folders need more than diffusers' own loading.

    Args:
        pipeline: of `pipeline_class`.
        adapter: the trained part of the denoiser.
        resolution: image height and width in pixels; None for the model's own.
        max_sequence_length: tokens per prompt of a text encoder without a fixed length (T5); 0 leaves it out, where a
            family allows that.
        text_encoder_device, offload: see `FrozenParts`.

    Attributes:
        family: name in `policy.family`.
        pipeline_class: the pipeline that a folder must contain.
        process: see `Policy`.
        denoiser: the pipeline's name of the network that trains.
        text_parts: see `FrozenParts`.
        sized_part: the one of them whose length is `max_sequence_length`; None: all have their own.
        optional_parts: parts that a pipeline folder may lack, and that `max_sequence_length=0` leaves out.
        guidance_offset: the pipeline's own `guidance_scale` minus ours for the same images.
        guidance_argument: its argument of a pipeline call.
        load_options: further arguments of the pipeline; a part that is None here is not loaded.
        network, latent_shape: see `Policy`.

    Raises:
        UserError: a resolution that the model cannot generate.
    """

    family: ClassVar[str]
    pipeline_class: ClassVar[type[DiffusionPipeline]]
    process: Process
    denoiser: ClassVar[str] = "transformer"
    sized_part: ClassVar[str | None] = None
    optional_parts: ClassVar[tuple[str, ...]] = ()
    guidance_offset: ClassVar[float] = 0.0
    guidance_argument: ClassVar[str] = "guidance_scale"
    load_options: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        pipeline: Any,
        adapter: Adapter,
        resolution: int | None = None,
        max_sequence_length: int = 256,
        text_encoder_device: str | None = None,
        offload: bool = False,
    ) -> None:
        self.pipeline, self.adapter, self.max_sequence_length = pipeline, adapter, max_sequence_length
        self.network: nn.Module = getattr(pipeline, self.denoiser)
        self.network.eval()  # no dropout: rollout and replay must compute the same thing
        FrozenParts.__init__(self, text_encoder_device, offload)
        PromptWarnings.__init__(self)
        with naming("policy.resolution"):
            self.latent_shape: tuple[int, ...] = self._latent_shape(resolution)

    @abstractmethod
    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        """Encoded prompts, one row each, exactly as the pipeline itself conditions on them; see `Policy.encode`."""

    @abstractmethod
    def sigmas(self, num_steps: int) -> Tensor:
        """Noise levels of a sampling grid, [T + 1], falling; see `Policy.sigmas`."""

    @abstractmethod
    def blocks(self) -> Iterator[nn.Module]:
        """The parts of the network that are compiled, and sharded, one by one."""

    @abstractmethod
    def _unguided(self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """The prediction at one noise level, float [B, C, H, W]."""

    @abstractmethod
    def _latent_shape(self, resolution: int | None) -> tuple[int, ...]:
        """(C, H, W) of the latents of an image of this height and width.

        Raises:
            UserError: the model cannot generate this resolution.
        """

    def predict(
        self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition, negative: Condition, guidance_scale: float
    ) -> Tensor:
        """Guided prediction; both branches in one batch (see `Policy.predict`)."""
        if guidance_scale == 1:
            return self._checked(self._unguided(latents_BCHW, sigma, condition), latents_BCHW)
        size = len(condition)
        both = Condition.concatenate([negative.repeat_interleave(size), condition])
        without, with_prompt = self._unguided(torch.cat([latents_BCHW, latents_BCHW]), sigma, both).chunk(2)
        return self._checked(self._guided(without, with_prompt, guidance_scale), latents_BCHW)

    def _checked(self, prediction_BCHW: Tensor, latents_BCHW: Tensor) -> Tensor:
        """The prediction of a family, perhaps somebody's."""
        return of_shape(f"policy.family={self.family}: the prediction", prediction_BCHW, latents_BCHW.shape)

    def _guided(self, without_BCHW: Tensor, with_prompt_BCHW: Tensor, guidance_scale: float) -> Tensor:
        """The prediction of both branches, classifier-free guidance (arXiv 2207.12598)."""
        return without_BCHW + guidance_scale * (with_prompt_BCHW - without_BCHW)

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Images in [0, 1], float32 [B, 3, H, W], of latents that were centred and scaled for the denoiser.

        The autoencoder's config says how: by one scale and one shift, or by a mean and a standard deviation per channel
        and the scale. It runs in its own dtype, or in float32 if it would overflow in float16, and never in tiles,
        whose seams would affect rewards.
        """
        vae = self.pipeline.vae
        if self._offload:
            vae.to(latents_BCHW.device)  # and there it stays until `rest`
        if vae.config.get("force_upcast") and vae.dtype == torch.float16:
            vae.float()
        latents_BCHW = self._centred(latents_BCHW)
        with torch.no_grad(), torch.autocast(latents_BCHW.device.type, enabled=False):
            images = self._decoded(latents_BCHW.to(vae.dtype))
        return (images.float() / 2 + 0.5).clamp(0, 1)

    def _centred(self, latents_BCHW: Tensor) -> Tensor:
        """Latents as the autoencoder gives them, float32, of those that were centred and scaled for the denoiser."""
        config = self.pipeline.vae.config
        latents_BCHW, scale = latents_BCHW.float(), config.get("scaling_factor", 1.0)
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is None or std is None:
            return latents_BCHW / scale + (config.get("shift_factor") or 0.0)
        mean_C11, std_C11 = (per_channel(values, latents_BCHW) for values in (mean, std))
        return latents_BCHW * std_C11 / scale + mean_C11

    def _decoded(self, latents_BCHW: Tensor) -> Tensor:
        """The autoencoder's output, in [-1, 1]."""
        return self.pipeline.vae.decode(latents_BCHW, return_dict=False)[0]

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.adapter.trainable_parameters()

    @contextmanager
    def reference(self) -> Iterator[None]:
        with self.adapter.reference() as network:
            before, self.network = self.network, network
            try:
                yield
            finally:
                self.network = before

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

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's inputs: its weights' own; in autocast float32, which each layer rounds as it needs."""
        mixed = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
        return torch.float32 if mixed else self._weights_dtype

    @cached_property
    def _weights_dtype(self) -> torch.dtype:
        """Diffusers looks for it in every module at every call."""
        return self.network.dtype

    def shard(self, mesh: DeviceMesh) -> None:
        """Shards the denoiser over the processes of a mesh, block by block; then its weights are there."""
        shard(self.network, self.blocks(), mesh)
        self.adapter.fill()

    @classmethod
    def prepare(cls, pipeline: Any) -> Any:
        """Adapts the loaded pipeline to what the policy needs.

        Raises:
            ValueError: it cannot be used; the message says why.
        """
        return pipeline

    @classmethod
    def read_lora(cls, location: str, **pinned: str) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
        """Weights and config of a LoRA in diffusers' format, from safetensors only.

        Raises:
            OSError, ValueError: there is none, or it cannot be used.
        """
        weights, metadata = cls.pipeline_class.lora_state_dict(
            location, use_safetensors=True, return_lora_metadata=True, **pinned
        )
        return weights, metadata

    def encoder_key(self) -> str:
        """Twelve hex digits of all that an encoded prompt depends on besides its text."""
        settings = f"{type(self).__name__} {self.max_sequence_length} {self.text_device.type}"
        tokenizers = [getattr(self.pipeline, part.replace("text_encoder", "tokenizer")) for part in self.text_parts]
        return text_encoders_key(self._text_encoders(), [one for one in tokenizers if one is not None], settings)
