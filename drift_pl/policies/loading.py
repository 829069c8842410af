"""From a folder to a policy: loading the pipeline, attaching what trains, compiling and checkpointing its blocks."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import PipelineQuantizationConfig
from diffusers.training_utils import cast_training_params
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn

from drift_pl.core.errors import UserError, naming
from drift_pl.core.locate import load_pretrained
from drift_pl.policies.full import FullTuning, read_weights
from drift_pl.policies.lora import LoraAdapter, attach_lora, load_lora
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.protocol import Adapter

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
class BaseWeights:
    """The model before fine-tuning.

    Attributes:
        pretrained: hub id, folder or pkg:PACKAGE/FOLDER in diffusers' format.
        dtype, quantisation: of the frozen weights, see `loading_options`; an adapter is float32 in any case.
    """

    pretrained: str
    dtype: str | None = None
    quantisation: str | None = None


@dataclass(frozen=True)
class LowRank:
    """A low-rank adapter trains.

    Attributes:
        rank, alpha, targets, seed: see `attach_lora`.
        warm_start: hub id, file or folder of a LoRA in diffusers' format to start from; None for a fresh one.
    """

    rank: int
    alpha: int
    targets: Sequence[str]
    seed: int = 0
    warm_start: str | None = None


@dataclass(frozen=True)
class FullWeights:
    """All weights of the denoiser train.

    Attributes:
        reference_device: where the frozen copy lives, `device` or `cpu`, see `FullTuning`.
    """

    reference_device: str = "device"


@dataclass(frozen=True)
class Execution:
    """How the denoiser computes.

    Attributes:
        gradient_checkpointing: recompute activations in the backward pass.
        compile: torch.compile the denoiser's blocks.
    """

    gradient_checkpointing: bool = False
    compile: bool = False


def load_policy(
    family: type[Family],
    base: BaseWeights,
    tuning: LowRank | FullWeights,
    execution: Execution = Execution(),  # noqa: B008  # frozen
    **arguments: Any,
) -> Family:
    """A policy of a family, on the CPU.

    Args:
        family: class of the policy.
        arguments: of its constructor after `pipeline` and `adapter`, see `PipelinePolicy`.

    Raises:
        UserError: something cannot be loaded, or the model does not have or cannot do what is asked for.
    """
    load = partial(load_pipeline, family, **loading_options(base.dtype, base.quantisation, family.denoiser))
    with naming("policy.pretrained"):
        pipeline = load_pretrained(load, base.pretrained)
    policy = family(pipeline, attach_adapter(family, pipeline, base.pretrained, tuning), **arguments)
    if execution.gradient_checkpointing:
        policy.network.enable_gradient_checkpointing()
    if execution.compile:
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
    index = Path(location) / "model_index.json"
    if Path(location).exists():
        if not index.is_file():
            raise OSError("model_index.json is missing: this is not a diffusers pipeline folder")
        entries = json.loads(index.read_text(encoding="utf-8"))
        expected = family.pipeline_class.__name__
        if entries.get("_class_name") != expected:
            raise ValueError(
                f"it holds a {entries.get('_class_name')}, and policy.family={family.family} needs a {expected}"
            )
        absent = {part: None for part in family.optional_parts if entries.get(part, [None, None])[0] is None}
    return family.prepare(family.pipeline_class.from_pretrained(location, **absent, **family.load_options, **options))


def attach_adapter(
    family: type[PipelinePolicy], pipeline: Any, pretrained: str, tuning: LowRank | FullWeights
) -> Adapter:
    """Makes what trains of the pipeline's denoiser, and freezes the rest of it.

    Raises:
        UserError: the denoiser has no such layers, or a warm start does not fit.
    """
    network: nn.Module = getattr(pipeline, family.denoiser)
    if isinstance(tuning, FullWeights):
        return FullTuning(network, _original_weights(network, family.denoiser, pretrained), tuning.reference_device)
    attach_lora(network, tuning.rank, tuning.alpha, tuning.targets, tuning.seed)
    cast_training_params(network, torch.float32)  # an adapter of half precision would lose small steps
    if tuning.warm_start is not None:
        with naming("policy.lora.pretrained"):
            weights, metadata = load_pretrained(family.read_lora, tuning.warm_start)
        load_lora(network, weights, metadata, family.denoiser)
    return LoraAdapter(network)


def _original_weights(network: Any, part: str, pretrained: str) -> Callable[[], dict[str, Tensor]]:
    """What reads a network's weights once more, in the dtype that they have now."""
    kind, dtype = type(network), network.dtype

    def read(location: str, **pinned: str) -> dict[str, Tensor]:
        return read_weights(kind, location, part, dtype, **pinned)

    def original() -> dict[str, Tensor]:
        with naming("policy.pretrained"):
            return load_pretrained(read, pretrained)

    return original


def loading_options(dtype: str | None, quantisation: str | None, denoiser: str) -> dict[str, Any]:
    """Arguments of `from_pretrained`.

    Args:
        dtype: of the frozen weights, a key of `DTYPES`; None for each part's own, as diffusers loads it. The
            autoencoder stays in float32: it is small, and judges see what it rounds.
        quantisation: of the denoiser's weights alone, a key of `QUANTISATIONS`; None for none.
        denoiser: the pipeline's name of the network that trains.

    Raises:
        UserError: an unknown name, a package that is missing, or no CUDA device to quantise on.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"policy.dtype={dtype!r} is unknown: use null or one of {', '.join(DTYPES)}")
    options: dict[str, Any] = {}
    if dtype is not None:
        options["dtype"] = {"default": DTYPES[dtype], "vae": torch.float32}
    if quantisation is not None:
        options["quantization_config"] = quantisation_config(quantisation, denoiser)
    return options


def quantisation_config(name: str, denoiser: str) -> PipelineQuantizationConfig:
    """Diffusers' own config of a quantised denoiser; the other parts stay as they are.

    Raises:
        UserError: see `loading_options`.
    """
    if name not in QUANTISATIONS:
        raise UserError(f"policy.quantisation={name!r} is unknown: use null or one of {', '.join(QUANTISATIONS)}")
    package, arguments = QUANTISATIONS[name]
    if find_spec(package) is None:
        raise UserError(
            f"policy.quantisation={name} needs the package {package}: pip install {package}, or set "
            "policy.quantisation=null"
        )
    if not torch.cuda.is_available():
        raise UserError(f"policy.quantisation={name} needs a CUDA device, and there is none: policy.quantisation=null")
    return PipelineQuantizationConfig(
        quant_backend=name, quant_kwargs=dict(arguments), components_to_quantize=[denoiser]
    )
