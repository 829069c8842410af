"""The protocols of a model and of the trained part of its network."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from drift_pl.core.types import Condition
from drift_pl.policies.process import Process


class Policy(Protocol):
    """An image generator that is trained. Its `network` trains; the frozen parts stay outside of any module tree.

    It may have `expect_prompts(prompts)`: it is given all of a run's before the first is encoded, and warns once of
    those that it cuts (`core.text_length.CutTexts`). It may have `encoder_key()`, a text that changes with all that
    an encoded prompt depends on besides its text: only then are encoded prompts kept on disk.
    `trainer.strategy=fsdp` needs a `Shardable` one. It may have `has_unused_parameters = True`: some that train act on
    nothing, and so get no gradient, which DDP must know.

    Attributes:
        network: the denoiser. Policies call only `network(...)`, no other method, so that it can be sharded.
        latent_shape: (C, H, W) of one image's latents; (C, F, H, W) of a video's.
        process: defines its noise levels and predictions.
    """

    network: nn.Module
    latent_shape: tuple[int, ...]
    process: Process

    def encode(self, prompts: Sequence[str], negative: bool = False) -> Condition:
        """Encoded prompts, one row each; without gradient.

        Args:
            negative: whether they are for the unconditional branch, which some families encode differently.
        """
        ...

    def sigmas(self, num_steps: int) -> Tensor:
        """Noise levels of a sampling grid, [T + 1], from noise down to the image; on the CPU.

        For a flow float32, from 1 to 0. For a DDPM sqrt(1 - alpha_bar) as float64, because alpha_bar is recovered from
        it; it starts slightly below 1 and ends where the model's scheduler ends, which may not be 0.
        """
        ...

    def predict(
        self, latents_BCHW: Tensor, sigma: Tensor, condition: Condition, negative: Condition, guidance_scale: float
    ) -> Tensor:
        """Guided velocity v = noise - x_0, or for a DDPM the noise, at one noise level: float [B, C, H, W].

        Args:
            sigma: 0-dimensional noise level, shared by the batch; one of `sigmas`.
            negative: one row, the condition of the unconditional branch; unused at guidance scale 1.
        """
        ...

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Images in [0, 1], float32 [B, 3, H, W]; of videos the frames side by side, [B, 3, H, F x W]."""
        ...

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that train, in a fixed order."""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Within it, `predict` is the model before fine-tuning."""
        ...

    def adapter_scale(self, scale: float) -> AbstractContextManager[None]:
        """Within it the adapter's output is multiplied by `scale`: 0 is the reference, 1 the trained policy."""
        ...

    def at_resolution(self, resolution: int | None) -> AbstractContextManager[None]:
        """Within it images have another height and width, in pixels; None for the policy's own."""
        ...

    def to(self, device: torch.device | str) -> "Policy":
        """Moves the frozen parts; `network` moves with the module that holds it."""
        ...


@runtime_checkable
class Shardable(Protocol):
    """A policy whose network can be sharded over processes."""

    def shard(self, mesh: DeviceMesh) -> None:
        """Shards `network` over the processes of a mesh (`policies.sharding.shard`); then its weights are there."""
        ...


@runtime_checkable
class Offloadable(Protocol):
    """A policy whose parts besides the network may leave the accelerator."""

    def rest(self) -> object:
        """The end of a phase that decodes."""
        ...

    def encoding(self) -> AbstractContextManager[None]:
        """Within it the text encoders are where they encode."""
        ...


class Adapter(Protocol):
    """The trained part of a network, whose other parameters are frozen."""

    def fill(self) -> None:
        """Once the network is sharded: reads the weights of one that was made without (`StoredNetwork`)."""
        ...

    def trainable_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that train, in a fixed order."""
        ...

    def reference(self) -> AbstractContextManager[nn.Module]:
        """Within it the network that it yields computes what the trained one did before training, bit for bit.

        That is the trained network itself, or a second one. It nests.
        """
        ...

    def scaled(self, scale: float) -> AbstractContextManager[None]:
        """Within it the learned update is multiplied by `scale`: 0 is the reference, 1 the trained network."""
        ...
