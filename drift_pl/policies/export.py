"""A policy's weights in diffusers' own formats: a LoRA that `load_lora_weights` takes, or a whole pipeline folder.

Independent of the model family: which part of the pipeline was trained, and hence the names of its weights, follows
from the policy's pipeline. A policy that stores its adapter differently has a method `save_adapter(folder)`.
"""

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drift_pl.core.errors import UserError
from drift_pl.policies.protocol import Policy


@dataclass(frozen=True)
class PipelineFacts:
    """What an example of loading the weights needs to know.

    Attributes:
        class_name: of the pipeline in diffusers.
        absent: parts that the base model lacks and that diffusers must be told about, e.g. `text_encoder_3`.
        call_arguments: names of the arguments of a pipeline call.
        process: of the policy, `flow` or `ddpm`.
        guidance_offset: the pipeline's own guidance scale minus ours for the same images.
        guidance_argument: the argument of a pipeline call that takes it; one of another name than `guidance_scale` acts
            beside a negative prompt only, which may be empty.
    """

    class_name: str
    absent: tuple[str, ...]
    call_arguments: tuple[str, ...]
    process: str
    guidance_offset: float = 0.0
    guidance_argument: str = "guidance_scale"


def describe_pipeline(policy: Policy) -> PipelineFacts:
    """Facts about a policy's pipeline that the model card's example of loading the weights needs.

    Raises:
        UserError: the policy has no pipeline.
    """
    pipeline = _pipeline(policy)
    optional = type(pipeline)._optional_components
    return PipelineFacts(
        class_name=type(pipeline).__name__,
        absent=tuple(name for name, part in pipeline.components.items() if part is None and name not in optional),
        call_arguments=tuple(inspect.signature(type(pipeline).__call__).parameters),
        process=policy.process.name,
        guidance_offset=getattr(policy, "guidance_offset", 0.0),
        guidance_argument=getattr(policy, "guidance_argument", "guidance_scale"),
    )


def save_lora(policy: Policy, folder: Path) -> None:
    """Writes `pytorch_lora_weights.safetensors`, the adapter's config in its header.

    Without that config diffusers assumes alpha = rank, and the adapter would be scaled differently than in training.

    Raises:
        UserError: the policy has no adapter.
    """
    own_way = getattr(policy, "save_adapter", None)
    if own_way is not None:
        own_way(folder)
        return
    network: Any = policy.network
    adapters = getattr(network, "peft_config", None)
    if not adapters:
        raise UserError("format=lora: the run trained no adapter but the whole network: use format=full")
    adapter = adapters["default"].to_dict()
    # a set, whose order differs from process to process: equal adapters would have unequal headers
    adapter["target_modules"] = sorted(adapter["target_modules"])
    layers = {
        name.replace(".default.", "."): parameter.detach().cpu().contiguous()
        for name, parameter in policy.trainable_parameters()
    }
    part = _trained_part(policy)
    arguments = {f"{part}_lora_layers": layers, f"{part}_lora_adapter_metadata": adapter}
    type(_pipeline(policy)).save_lora_weights(folder, **arguments)
    _make_readable(folder)


def save_full(policy: Policy, folder: Path) -> None:
    """Writes the whole pipeline, the adapter merged into the weights; the policy has no adapter afterwards."""
    network: Any = policy.network
    if getattr(network, "peft_config", None):
        network.fuse_lora()
        network.unload_lora()
    with _silent("diffusers.pipelines.pipeline_utils"):  # it warns about parts that the base model does not have
        _pipeline(policy).save_pretrained(folder)
    _make_readable(folder)


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    level = logging.getLogger(logger).level
    logging.getLogger(logger).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logging.getLogger(logger).setLevel(level)


def _pipeline(policy: Policy) -> Any:
    """Every policy of diffusers' models has one.

    Raises:
        UserError: a family of one's own has none.
    """
    if not hasattr(policy, "pipeline"):
        raise UserError(
            f"policy.family: {type(policy).__name__} has no pipeline of diffusers, for which weights are exported: its "
            "checkpoints hold them, or give it an attribute `pipeline`"
        )
    return policy.pipeline


def _trained_part(policy: Policy) -> str:
    """`transformer` or `unet`: the part of the pipeline that is the policy's network."""
    return next(name for name, part in _pipeline(policy).components.items() if part is policy.network)


def _make_readable(folder: Path) -> None:
    """safetensors files are written readable by the owner only."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
