"""The model of a config without its weights: networks from a local folder's configurations or from published ones."""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from drift_pl.builders.footprint import Pass, bytes_of, give_shapes, measure, shapes_only
from drift_pl.builders.published import PIPELINES, T5_XXL, Pipeline
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError, naming
from drift_pl.core.json_files import read_model_index
from drift_pl.core.locate import locate
from drift_pl.core.registry import find
from drift_pl.policies.hollow import CLIP_TOKENS, hollow_policy, network_of
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.storage import narrow
from drift_pl.policies.stored import stored_dtype

SCHEDULER = SimpleNamespace(config=SimpleNamespace(num_train_timesteps=1000, prediction_type="epsilon"))
"""What a pass asks of a scheduler."""
COUNTED = ("sd3", "flux", "sd15", "sdxl")
"""Families whose passes need shapes only: the others' depend on the numbers in a mask."""
FLOAT = 4
"""Bytes of a trained weight."""
QUANTISED = {"bitsandbytes_4bit": 0.5625, "bitsandbytes_8bit": 1.0}
"""Bytes per weight of a linear layer; 4-bit with a float32 scale for 64 weights (QLoRA without double quantisation)."""


@dataclass(frozen=True)
class Source:
    """Where the numbers come from.

    Attributes:
        denoiser, vae: class of diffusers and configuration.
        dtype: of the stored denoiser, a name of torch's.
        text_bytes: of text encoders: without T5, and T5's.
        clip_tokens: of a prompt by CLIP's text encoder.
    """

    denoiser: tuple[str, dict[str, Any]]
    vae: tuple[str, dict[str, Any]]
    dtype: str
    text_bytes: tuple[int, int]
    clip_tokens: int = CLIP_TOKENS


@dataclass(frozen=True)
class Model:
    """Bytes of a model's parts, and its passes over one image.

    Attributes:
        frozen: of the denoiser's weights without the adapter, and their number.
        trained: number of trained weights.
        vae, text: bytes.
        dtype: of the frozen weights.
        sample, update, decode: passes of the denoiser without gradient and with, and of the autoencoder.
        latent, side: numbers of an image's latents; its height in pixels.
        condition: bytes of an encoded prompt in float32.
    """

    frozen: int
    parameters: int
    trained: int
    vae: int
    text: int
    dtype: str
    sample: Pass
    update: Pass
    decode: Pass
    latent: int
    side: int
    condition: int


def model_of(config: Config) -> Model:
    """
    Raises:
        UserError: neither a folder nor a published model that is known here, or a family of another package.
    """
    policy = config.policy
    with naming("policy.family"):
        family = find("family", policy.family)
    if not (isinstance(family, type) and issubclass(family, PipelinePolicy)):
        raise UserError(f"policy.family={policy.family} is not one of this package: its memory cannot be counted")
    if family.family not in COUNTED:
        raise UserError(
            f"policy.family={policy.family}: what its passes take is not counted yet; it is for {', '.join(COUNTED)}"
        )
    lora = (policy.lora.rank, policy.lora.alpha, tuple(policy.lora.targets)) if policy.tuning == "lora" else None
    found = _counted(
        policy.pretrained,
        family,
        policy.dtype,
        lora,
        policy.resolution,
        policy.max_sequence_length,
        policy.gradient_checkpointing,
        policy.storage,
        policy.guidance_scale,
        config.trainer.precision,
    )
    if policy.quantisation is not None:
        found = replace(found, frozen=int(found.parameters * QUANTISED[policy.quantisation]))
    if policy.text_encoder_device is not None:
        found = replace(found, text=0)
    return found


@cache
def _counted(
    pretrained: str,
    family: type[PipelinePolicy],
    dtype: str | None,
    lora: tuple[int, int, tuple[str, ...]] | None,
    resolution: int | None,
    text_tokens: int,
    checkpointing: bool,
    storage: str | None,
    guidance_scale: float,
    precision: str,
) -> Model:
    source = source_of(pretrained, family)
    weights = dtype or source.dtype
    with torch.device("meta"):
        network = network_of(*source.denoiser, getattr(torch, weights))
        vae = network_of(*source.vae, torch.float32)
        policy = hollow_policy(family, network, vae, SCHEDULER, lora, resolution, text_tokens, source.clip_tokens)
        if storage is not None:
            narrow(network, policy.blocks())
    if checkpointing:
        network.enable_gradient_checkpointing()
    policy.timestep = lambda sigma: 500  # type: ignore[attr-defined]  # it looks for the level among real numbers
    trained = sum(each.numel() for each in network.parameters() if each.requires_grad)
    whole = bytes_of(network) - FLOAT * trained
    with shapes_only():
        give_shapes(network)
        give_shapes(vae)
        sample, update, decode, condition = passes(policy, guidance_scale, precision, vae)
    without_clip, t5 = source.text_bytes
    latent = int(torch.Size(policy.latent_shape).numel())
    text = without_clip + (t5 if text_tokens else 0)
    parameters = sum(each.numel() for each in network.parameters()) - (trained if lora else 0)
    frozen, side = whole if lora else 0, policy.latent_shape[-1] * policy.pipeline.vae_scale_factor
    taken = (sample, update, decode)
    return Model(frozen, parameters, trained, bytes_of(vae), text, weights, *taken, latent, side, condition)


def passes(
    policy: PipelinePolicy, guidance_scale: float, precision: str, vae: nn.Module
) -> tuple[Pass, Pass, Pass, int]:
    """Over one image, within `shapes_only`, and the bytes of its condition."""
    latents_BCHW, sigma = torch.randn(1, *policy.latent_shape), torch.tensor(0.5)
    condition, negative = policy.encode(["a"]), policy.encode([""], negative=True)

    def predict() -> Tensor:
        return policy.predict(latents_BCHW, sigma, condition, negative, guidance_scale)

    def sample() -> Tensor:
        with torch.no_grad():
            return predict()

    rollout = measure(sample, precision, policy.network)
    update = measure(lambda: predict().float().square().mean().backward(), precision, policy.network)
    decode = measure(lambda: policy.decode(latents_BCHW), precision, vae)
    return rollout, update, decode, condition.nbytes


def source_of(pretrained: str, family: type[PipelinePolicy]) -> Source:
    """
    Raises:
        UserError: nothing is known of the model, or it is another family's.
    """
    if pretrained.startswith("pkg:") or Path(pretrained).exists():
        with naming("policy.pretrained"):
            return _of_folder(Path(locate(pretrained)), family)
    if pretrained not in PIPELINES:
        raise UserError(
            f"policy.pretrained={pretrained}: its configuration is not known here; give a local folder, or one of "
            f"{', '.join(PIPELINES)}"
        )
    published = PIPELINES[pretrained]
    text = sum(2 * _parameters(kind, config) for kind, config, _ in published.clip)
    t5 = 2 * _parameters("T5EncoderModel", T5_XXL) if published.has_t5 else 0
    return Source(
        (published.denoiser, published.config), (vae_class(published), published.vae), published.dtype, (text, t5)
    )


def vae_class(published: Pipeline) -> str:
    return str(published.vae.get("_class_name", "AutoencoderKL"))


@cache
def _size(kind: str, config: str) -> int:
    numbers = json.loads(config)
    model: Any = getattr(transformers, kind)
    with torch.device("meta"):
        network = model(getattr(transformers, kind.replace("WithProjection", "")).config_class(**numbers))
    return sum(each.numel() for each in network.parameters())


def _parameters(kind: str, config: dict[str, Any]) -> int:
    return _size(kind, json.dumps(config))


def _of_folder(folder: Path, family: type[PipelinePolicy]) -> Source:
    """
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
    sizes = {part: _file_bytes(folder / part) for part in family.text_parts}
    sized = sizes.pop(family.sized_part, 0) if family.sized_part in family.optional_parts else 0
    text = (sum(sizes.values()), sized)
    dtype = str(stored_dtype(folder / family.denoiser)).removeprefix("torch.")
    return Source(parts[family.denoiser], parts["vae"], dtype, text, _clip_tokens(folder / "tokenizer"))


def _clip_tokens(folder: Path) -> int:
    try:
        described = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return min(int(described["model_max_length"]), CLIP_TOKENS)
    except (OSError, ValueError, KeyError, TypeError):
        return CLIP_TOKENS


def _file_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
