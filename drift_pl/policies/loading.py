"""How the frozen weights are held: their dtype, and quantised or not."""

from importlib.util import find_spec
from typing import Any

import torch
from diffusers import PipelineQuantizationConfig

from drift_pl.core.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

QUANTISATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "bitsandbytes_4bit": (
        "bitsandbytes",
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
    ),
    "bitsandbytes_8bit": ("bitsandbytes", {"load_in_8bit": True}),
}
"""Diffusers' name of a backend -> the package that it needs, and its arguments (QLoRA's 4-bit: arXiv 2305.14314)."""


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
