"""From a folder to a policy: load the pipeline, attach the adapter, compile the blocks."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import diffusers
import torch
from diffusers import PipelineQuantizationConfig
from diffusers.training_utils import cast_training_params
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn

from drift_pl.core.errors import UserError, naming
from drift_pl.core.json_files import read_model_index
from drift_pl.core.locate import load_pretrained
from drift_pl.policies.full import FullTuning, ShardedFullTuning
from drift_pl.policies.lora import LoraAdapter, attach_lora, load_lora
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.protocol import Adapter
from drift_pl.policies.stored import StoredNetwork, weightless_layers

Family = TypeVar("Family", bound=PipelinePolicy)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

QUANTISATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "bitsandbytes_4bit": (
        "bitsandbytes",
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
    ),
    "bitsandbytes_8bit": ("bitsandbytes", {"load_in_8bit": True}),
}
"""Diffusers' name of a backend -> the package that it needs, and its arguments (QLoRA's 4-bit: arXiv 2305.14314)."""


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
    quantisation: str | None = None,
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
        reference_device: see `FullTuning`.
        gradient_checkpointing: recompute activations in the backward pass.
        compile: torch.compile the denoiser's blocks.
        sharded: the denoiser is made without weights; `PipelinePolicy.shard` reads them.

    Raises:
        UserError: something cannot be loaded, or the model does not have or cannot do what is configured.
    """
    load = partial(load_pipeline, family, **loading_options(dtype, quantisation, family.denoiser))
    stored: StoredNetwork | None = None
    with naming("policy.pretrained"):
        if sharded:
            stored, skeleton = load_pretrained(partial(_find_denoiser, family, DTYPES.get(dtype or "")), pretrained)
            load = partial(load, **{family.denoiser: skeleton})
        pipeline = load_pretrained(load, pretrained)
    network: nn.Module = getattr(pipeline, family.denoiser)
    if adapter is None and stored is not None:
        trained: Adapter = ShardedFullTuning(network, stored)
    elif adapter is None:
        read = partial(_read_weights, type(network), family.denoiser, network.dtype, pretrained)
        trained = FullTuning(network, read, reference_device)
    else:
        with nullcontext() if stored is None else weightless_layers(network):
            trained = _attach_adapter(family, network, adapter, stored)
    policy = family(pipeline, trained, **arguments)
    if gradient_checkpointing:
        policy.network.enable_gradient_checkpointing()
    if compile:
        for block in policy.blocks():
            block.compile()
    return policy


def load_pipeline(family: type[PipelinePolicy], location: str, **options: Any) -> Any:
    """The pipeline of a folder or hub id, prepared for its family.

    Parts that the folder's index lists as null are passed as None, as diffusers wants it.

    Args:
        options: further arguments of `from_pretrained`.

    Raises:
        OSError, ValueError: there is none, or it belongs to another family.
    """
    diffusers_logging.disable_progress_bar()  # of loading from disk; downloads from the hub keep theirs
    absent: dict[str, None] = {}
    if Path(location).exists():
        entries = read_index(family, Path(location))
        absent = {part: None for part in family.optional_parts if entries.get(part, [None, None])[0] is None}
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)  # it logs what it then raises
    try:
        pipeline = family.pipeline_class.from_pretrained(location, **absent, **family.load_options, **options)
    finally:
        diffusers_logging.set_verbosity(level)
    pipeline = family.prepare(pipeline)  # first: it says what a model is that has other layers on purpose
    _refuse_missing_weights({name: part for name, part in pipeline.components.items() if name not in options})
    return pipeline


def _refuse_missing_weights(parts: Mapping[str, Any]) -> None:
    """Diffusers leaves a weight that is not in the files without memory, and says nothing.

    Args:
        parts: of a pipeline, that were read from its folder.

    Raises:
        ValueError: there is one; the message names the first.
    """
    for part, network in parts.items():
        for name, parameter in network.named_parameters() if isinstance(network, nn.Module) else ():
            if parameter.is_meta:
                raise ValueError(f"{name} of its {part} is not in the files")


def read_index(family: type[PipelinePolicy], folder: Path) -> dict[str, Any]:
    """The parts of a pipeline's folder.

    Raises:
        OSError, ValueError: it is none, or it belongs to another family.
    """
    entries = read_model_index(folder)
    expected = family.pipeline_class.__name__
    if entries.get("_class_name") != expected:
        raise ValueError(
            f"it holds a {entries.get('_class_name')}, and policy.family={family.family} needs a {expected}"
        )
    for part, entry in entries.items():
        listed = isinstance(entry, list) and entry and entry[0] is not None and part not in family.load_options
        if listed and not (folder / part).is_dir():
            raise OSError(f"its folder {part} is missing")
    return entries


def _find_denoiser(
    family: type[PipelinePolicy], dtype: torch.dtype | None, location: str, **pinned: str
) -> tuple[StoredNetwork, nn.Module]:
    """The denoiser of a folder, or of a hub id, whose files are downloaded: where it is stored, and without weights.

    Raises:
        OSError, ValueError: there is none, or it cannot be read by rows.
    """
    options = {**family.load_options, **pinned}
    folder = Path(location if Path(location).exists() else family.pipeline_class.download(location, **options))
    kind = getattr(diffusers, read_index(family, folder)[family.denoiser][1])
    stored = StoredNetwork(folder / family.denoiser, kind, dtype)
    network = stored.skeleton()
    stored.refuse_others(network)
    return stored, network


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


def loading_options(dtype: str | None, quantisation: str | None, denoiser: str) -> dict[str, Any]:
    """Arguments of `from_pretrained`.

    Args:
        dtype: of the frozen weights, a key of `DTYPES`; None for each part's own, as diffusers loads it. The
            autoencoder stays in float32: it is small, and rewards see its rounding errors.
        quantisation: of the denoiser's weights alone, a key of `QUANTISATIONS`; None for none.
        denoiser: the pipeline's name of the network that trains.

    Raises:
        UserError: a missing package, or no CUDA device to quantise on.
    """
    options: dict[str, Any] = {}
    if dtype is not None:
        options["dtype"] = {"default": DTYPES[dtype], "vae": torch.float32}
    if quantisation is None:
        return options
    package, arguments = QUANTISATIONS[quantisation]
    if find_spec(package) is None:
        raise UserError(
            f"policy.quantisation={quantisation} needs the package {package}: pip install {package}, or set "
            "policy.quantisation=null"
        )
    if not torch.cuda.is_available():
        raise UserError(
            f"policy.quantisation={quantisation} needs a CUDA device, and there is none: policy.quantisation=null"
        )
    options["quantization_config"] = PipelineQuantizationConfig(
        quant_backend=quantisation, quant_kwargs=dict(arguments), components_to_quantize=[denoiser]
    )
    return options
