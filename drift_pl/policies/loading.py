"""From a folder to a policy: load the pipeline, attach the adapter, compile the blocks."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from diffusers.training_utils import cast_training_params
from torch import Tensor, nn

from drift_pl.core.errors import naming
from drift_pl.core.locate import load_pretrained
from drift_pl.policies.folders import find_denoiser, load_pipeline
from drift_pl.policies.full import FullTuning, ShardedFullTuning
from drift_pl.policies.load_options import DTYPES, loading_options
from drift_pl.policies.lora import LoraAdapter, attach_lora, load_lora
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.protocol import Adapter
from drift_pl.policies.storage import narrow
from drift_pl.policies.stored import StoredNetwork, weightless_layers

Family = TypeVar("Family", bound=PipelinePolicy)


@dataclass(frozen=True)
class LowRank:
    """Settings of a low-rank adapter.

    Attributes:
        rank, alpha, targets, seed: see `attach_lora`.
        warm_start: hub id, file or folder of a LoRA in diffusers' format to start from; None for a fresh one.
    """

    rank: int
    alpha: int
    targets: Sequence[str]
    seed: int = 0
    warm_start: str | None = None


def load_policy(
    family: type[Family],
    pretrained: str,
    adapter: LowRank | None,
    arguments: Mapping[str, Any],
    *,
    dtype: str | None = None,
    autocast: str | None = None,
    quantisation: str | None = None,
    storage: str | None = None,
    reference_device: str = "device",
    gradient_checkpointing: bool = False,
    compile: bool = False,
    sharded: bool = False,
) -> Family:
    """A policy of a family, on the CPU.

    Args:
        family: class of the policy.
        pretrained: hub id, folder or pkg:PACKAGE/FOLDER in diffusers' format.
        adapter: trains a LoRA; None: all weights of the denoiser train.
        arguments: of the class after `pipeline` and `adapter`, see `PipelinePolicy`.
        dtype, quantisation: of the frozen weights, see `loading_options`; an adapter is float32 in any case.
        autocast: the half precision that the run computes in, a key of `DTYPES`; None for none.
        storage: of the frozen weights while they are not used: `fp8`, see `narrow`; None: as they are loaded.
        reference_device: see `FullTuning`.
        gradient_checkpointing: recompute activations in the backward pass.
        compile: torch.compile the denoiser's blocks.
        sharded: the denoiser is made without weights; `PipelinePolicy.shard` reads them.

    Raises:
        UserError: something cannot be loaded, or the model does not have or cannot do what is configured.
    """
    left_out = family.optional_parts if arguments.get("max_sequence_length") == 0 else ()
    load = partial(load_pipeline, family, left_out, **loading_options(dtype, quantisation, family.denoiser))
    if adapter is not None:  # without one, all weights become float32
        load = partial(load, autocast=autocast)
    stored: StoredNetwork | None = None
    with naming("policy.pretrained"):
        if sharded:
            find = partial(find_denoiser, family, left_out, DTYPES.get(dtype or ""))
            stored, skeleton = load_pretrained(find, pretrained)
            load = partial(load, **{family.denoiser: skeleton})
        pipeline = load_pretrained(load, pretrained)
    network: nn.Module = getattr(pipeline, family.denoiser)
    if adapter is None:
        trained: Adapter = _whole(family, network, pretrained, stored, reference_device)
    else:
        with nullcontext() if stored is None else weightless_layers(network):
            trained = _attach_adapter(family, network, adapter, stored)
    policy = family(pipeline, trained, **arguments)
    if storage is not None:
        narrow(policy.network, policy.blocks())
    if gradient_checkpointing:
        policy.network.enable_gradient_checkpointing()
    if compile:
        for block in policy.blocks():
            block.compile()
    return policy


def _whole(
    family: type[PipelinePolicy], network: nn.Module, pretrained: str, stored: StoredNetwork | None, reference: str
) -> Adapter:
    """Trains all weights of the denoiser."""
    if stored is not None:
        return ShardedFullTuning(network, stored)
    read = partial(_read_weights, type(network), family.denoiser, network.dtype, pretrained)
    return FullTuning(network, read, reference)


def _attach_adapter(
    family: type[PipelinePolicy], network: nn.Module, adapter: LowRank, stored: StoredNetwork | None
) -> LoraAdapter:
    """Freezes the denoiser and adds the adapter, in float32.

    Raises:
        UserError: the denoiser has no such layers, or a warm start does not fit.
    """
    attach_lora(network, adapter.rank, adapter.alpha, adapter.targets, adapter.seed)
    cast_training_params(network, torch.float32)  # an adapter of half precision would lose small steps
    if adapter.warm_start is not None:
        with naming("policy.lora.pretrained"):
            weights, metadata = load_pretrained(family.read_lora, adapter.warm_start)
        load_lora(network, weights, metadata, family.denoiser)
    return LoraAdapter(network, stored)


def _read_weights(kind: Any, part: str, dtype: torch.dtype, pretrained: str) -> dict[str, Tensor]:
    """Parameters by name of the network `part` of a pipeline, read again as they were loaded."""

    def read(location: str, **pinned: str) -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):  # a module may draw initial weights before it is filled
            loaded = kind.from_pretrained(location, subfolder=part, torch_dtype=dtype, **pinned)
        return dict(loaded.named_parameters())

    with naming("policy.pretrained"):
        return load_pretrained(read, pretrained)
