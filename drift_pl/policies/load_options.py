"""What diffusers is told about the weights that it loads: their dtype, and quantisation."""

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


def refuse_two_halves(part: str, stored: torch.dtype, autocast: str | None) -> None:
    """What `Config` refuses of `policy.dtype`, for weights that stay as they are stored.

    Args:
        part: the network's place, for the message.
        stored: dtype of its weights.
        autocast: that a run computes in, a key of `DTYPES`; None without autocast.

    Raises:
        UserError: they are two half precisions.
    """
    held = str(stored).removeprefix("torch.")
    if autocast in (None, "float32", held) or stored == torch.float32:
        return
    ours, theirs = ("16", "bf16") if autocast == "float16" else ("bf16", "16")
    raise UserError(
        f"{part} is stored in {held}, which policy.dtype=null keeps, and trainer.precision={ours}-mixed mixes two half "
        f"precisions: use policy.dtype={autocast}, or trainer.precision={theirs}-mixed"
    )


def loading_options(dtype: str | None, quantisation: str | None, denoiser: str) -> dict[str, Any]:
    """Arguments of `from_pretrained`.

    Args:
        dtype: of the frozen weights, a key of `DTYPES`; None for each part's own, see `load_pipeline`. The autoencoder
            is float32 in any case: it is small, and rewards see its rounding errors.
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
            f"policy.quantisation={quantisation} needs the package {package}: pip install 'drift-pl[quantisation]', or "
            "set policy.quantisation=null"
        )
    if not torch.cuda.is_available():
        raise UserError(
            f"policy.quantisation={quantisation} needs a CUDA device, and there is none: policy.quantisation=null"
        )
    options["quantization_config"] = PipelineQuantizationConfig(
        quant_backend=quantisation, quant_kwargs=dict(arguments), components_to_quantize=[denoiser]
    )
    return options
