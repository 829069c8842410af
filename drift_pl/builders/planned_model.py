"""The model of a config without its weights, and what its passes take."""

import json
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from drift_pl.builders.footprint import Pass, bytes_of, give_shapes, measure, shapes_only
from drift_pl.builders.planned_source import FLOAT, source_of
from drift_pl.builders.policy import pipeline_arguments
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError, naming
from drift_pl.core.registry import find
from drift_pl.policies.hollow import hollow_policy, network_of
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.storage import narrow

SCHEDULER = SimpleNamespace(config=SimpleNamespace(num_train_timesteps=1000, prediction_type="epsilon"))
"""What a pass asks of a scheduler."""
QUANTISED = {"bitsandbytes_4bit": 0.5625, "bitsandbytes_8bit": 1.0}
"""Bytes per weight of a linear layer; 4-bit with a float32 scale for 64 weights (QLoRA without double quantisation)."""

ON_ONE_DEVICE = {"text_encoder_device": None, "offload": False}
"""Arguments with which everything is counted; what leaves the device is known by its name."""


@dataclass(frozen=True)
class Model:
    """Bytes of a model's parts, and its passes over one image, or one video. Texts are as long as they may be.

    Attributes:
        frozen: of the denoiser's weights without the adapter, and their number.
        trained: number of trained weights.
        vae, text: bytes.
        dtype: of the frozen weights.
        sample, update, decode: passes of the denoiser without gradient and with, and of the autoencoder.
        latent, pixels: numbers of an image's latents and of the image, its three channels among them.
        condition: bytes of an encoded prompt in float32.
        offloads: whether its frozen parts leave the device between phases.
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
    pixels: int
    condition: int
    offloads: bool = False


def model_of(config: Config) -> Model:
    """What the estimate of memory needs to know of the config's model, counted without loading its weights.

    Raises:
        UserError: neither a folder nor a published model that is known here, or a family without a pipeline, or one
            that does not take `policy.args`.
    """
    policy = config.policy
    with naming("policy.family"):
        family = find("family", policy.family)
    if not (isinstance(family, type) and issubclass(family, PipelinePolicy)):
        raise UserError(f"policy.family={policy.family} is no PipelinePolicy: its memory cannot be counted")
    lora = (policy.lora.rank, policy.lora.alpha, tuple(policy.lora.targets)) if policy.tuning == "lora" else None
    given = pipeline_arguments(config, family)
    found = _counted(
        policy.pretrained,
        family,
        policy.dtype,
        lora,
        json.dumps({name: ON_ONE_DEVICE.get(name, value) for name, value in given.items()}),
        policy.gradient_checkpointing,
        policy.storage,
        policy.guidance_scale,
        config.trainer.precision,
    )
    if policy.quantisation is not None:
        found = replace(found, frozen=int(found.parameters * QUANTISED[policy.quantisation]))
    if given.get("text_encoder_device") is not None:  # a family of one's own may not take it
        found = replace(found, text=0)
    return replace(found, offloads=bool(given.get("offload")))


@cache
def _counted(
    pretrained: str,
    family: type[PipelinePolicy],
    dtype: str | None,
    lora: tuple[int, int, tuple[str, ...]] | None,
    given: str,
    checkpointing: bool,
    storage: str | None,
    guidance_scale: float,
    precision: str,
) -> Model:
    """Counts a model's bytes and passes on tensors without storage, once for all configs that share the model.

    Args:
        given: to the family's constructor, as JSON: a cache needs what can be hashed.
    """
    source = source_of(pretrained, family, dtype)
    weights = dtype or source.dtype
    with torch.device("meta"):
        network = network_of(*source.denoiser, getattr(torch, weights))
        vae = network_of(*source.vae, torch.float32)
        policy = hollow_policy(
            family, network, vae, SCHEDULER, lora, source.clip_tokens, source.distilled, **json.loads(given)
        )
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
        sample, update, decode, pixels, condition = passes(policy, guidance_scale, precision, vae)
    fixed, sized = source.text_bytes
    text = fixed + (sized if policy.max_sequence_length else 0)
    parameters = sum(each.numel() for each in network.parameters()) - (trained if lora else 0)
    frozen, taken = whole if lora else 0, (sample, update, decode)
    latent = prod(policy.latent_shape)
    return Model(frozen, parameters, trained, bytes_of(vae), text, weights, *taken, latent, pixels, condition)


def passes(
    policy: PipelinePolicy, guidance_scale: float, precision: str, vae: nn.Module
) -> tuple[Pass, Pass, Pass, int, int]:
    """Over one image, within `shapes_only`; its pixels, and the bytes of its condition."""
    latents_BCHW, sigma = torch.randn(1, *policy.latent_shape), torch.tensor(0.5)
    condition, negative = policy.encode(["a"]), policy.encode([""], negative=True)

    def predict() -> Tensor:
        return policy.predict(latents_BCHW, sigma, condition, negative, guidance_scale)

    def sample() -> Tensor:
        with torch.no_grad():
            return predict()

    rollout = measure(sample, precision, policy.network)
    update = measure(lambda: predict().float().square().mean().backward(), precision, policy.network)
    pixels: list[int] = []
    decode = measure(lambda: pixels.append(policy.decode(latents_BCHW).numel()), precision, vae)
    return rollout, update, decode, pixels[0], condition.nbytes
