"""Where the numbers of a model come from: a folder's configurations and files' headers, or published ones."""

import json
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import nn

from drift_pl.builders.published import PIPELINES, Pipeline, TextEncoder
from drift_pl.core.errors import UserError, naming
from drift_pl.core.json_files import read_model_index
from drift_pl.core.locate import locate
from drift_pl.policies.hollow import CLIP_TOKENS, own_family
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.stored import stored_dtype

FLOAT = 4
"""Bytes of a float32 number."""
FAMILIES = {
    "SD3Transformer2DModel": "sd3",
    "FluxTransformer2DModel": "flux",
    "ZImageTransformer2DModel": "zimage",
    "QwenImageTransformer2DModel": "qwen_image",
    "Flux2Transformer2DModel": "flux2_klein",
    "SanaTransformer2DModel": "sana",
    "WanTransformer3DModel": "wan",
    "UNet2DConditionModel": "sd15",
}
"""Denoiser of a published model -> its family."""


@dataclass(frozen=True)
class Source:
    """Where the numbers come from.

    Attributes:
        denoiser, vae: class of diffusers and configuration.
        dtype: of the stored denoiser, a name of torch's.
        text_bytes: of text encoders: all but the one whose length is `policy.max_sequence_length`, and that one's.
        clip_tokens: of a prompt by CLIP's text encoder.
        distilled: whether the model takes no guidance.
    """

    denoiser: tuple[str, dict[str, Any]]
    vae: tuple[str, dict[str, Any]]
    dtype: str
    text_bytes: tuple[int, int]
    clip_tokens: int = CLIP_TOKENS
    distilled: bool = False


def source_of(pretrained: str, family: type[PipelinePolicy], dtype: str | None = None) -> Source:
    """Configurations and sizes of a local folder, or of a published model as it is known here, without a download.

    Args:
        dtype: `policy.dtype`, also of the text encoders; None: as they are stored.

    Raises:
        UserError: nothing is known of the model, or it is another family's.
    """
    if pretrained.startswith("pkg:") or Path(pretrained).exists():
        with naming("policy.pretrained"):
            return _of_folder(Path(locate(pretrained)), family, dtype)
    if pretrained not in PIPELINES:
        raise UserError(
            f"policy.pretrained={pretrained}: its configuration is not known here; give a local folder, or one of "
            f"{', '.join(PIPELINES)}"
        )
    published = PIPELINES[pretrained]
    if FAMILIES[published.denoiser] != own_family(family):
        raise UserError(
            f"policy.pretrained={pretrained} is of policy.family={FAMILIES[published.denoiser]}, not {family.family}"
        )
    text_dtype = dtype or published.text_dtype
    fixed = sum(_text_bytes((kind, config), text_dtype) for kind, config, _ in published.clip)
    sized = 0 if published.sized is None else _text_bytes(published.sized, text_dtype)
    return Source(
        (published.denoiser, published.config),
        (vae_class(published), published.vae),
        published.dtype,
        (fixed, sized),
        distilled=published.distilled,
    )


def vae_class(published: Pipeline) -> str:
    return str(published.vae.get("_class_name", "AutoencoderKL"))


def text_network(encoder: TextEncoder) -> nn.Module:
    """On the current device."""
    kind, numbers = encoder
    model: Any = getattr(transformers, kind)
    network: nn.Module = model(getattr(transformers, kind.replace("WithProjection", "")).config_class(**numbers))
    return network


def _text_bytes(encoder: TextEncoder, dtype: str) -> int:
    return _sizes(encoder[0], json.dumps(encoder[1]), dtype)


@cache
def _sizes(kind: str, config: str, dtype: str) -> int:
    """Bytes of a text encoder's weights; in float16 some of T5's stay in float32."""
    with torch.device("meta"):
        network: Any = text_network((kind, json.loads(config)))
    kept = set(network._keep_in_fp32_modules or ()) if dtype == "float16" else set()
    size = getattr(torch, dtype).itemsize
    weights = network.named_parameters()
    return sum(each.numel() * (FLOAT if kept & set(name.split(".")) else size) for name, each in weights)


def _of_folder(folder: Path, family: type[PipelinePolicy], dtype: str | None) -> Source:
    """The source of a local pipeline, from its configurations and the weight files of its text encoders.

    Raises:
        UserError: it is no pipeline's folder, or another family's.
    """
    try:
        index = read_model_index(folder)
        parts = {part: (index[part][1], json.loads((folder / part / "config.json").read_text(encoding="utf-8")))
                 for part in (family.denoiser, "vae")}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"policy.pretrained={folder}: it cannot be read as a model's folder ({error})") from error
    expected = family.pipeline_class.__name__
    if index.get("_class_name") != expected:
        raise UserError(
            f"policy.pretrained={folder} holds a {index.get('_class_name')}, and policy.family={family.family} needs a "
            f"{expected}"
        )
    sizes = {part: _file_bytes(folder / part, dtype) for part in family.text_parts}
    sized = sizes.pop(family.sized_part, 0) if family.sized_part in family.optional_parts else 0
    text, stored = (sum(sizes.values()), sized), str(stored_dtype(folder / family.denoiser)).removeprefix("torch.")
    clip_tokens, distilled = _clip_tokens(folder / "tokenizer"), bool(index.get("is_distilled"))
    return Source(parts[family.denoiser], parts["vae"], stored, text, clip_tokens, distilled)


def _clip_tokens(folder: Path) -> int:
    try:
        described = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return min(int(described["model_max_length"]), CLIP_TOKENS)
    except (OSError, ValueError, KeyError, TypeError):
        return CLIP_TOKENS


def _file_bytes(folder: Path, dtype: str | None) -> int:
    """Of the weights in a folder's files, as they are or in another dtype."""
    files = sorted(folder.glob("*.safetensors"))
    if dtype is None:
        return sum(path.stat().st_size for path in files)
    count = 0
    for path in files:
        with safe_open(path, "pt") as weights:
            count += sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return count * int(getattr(torch, dtype).itemsize)
