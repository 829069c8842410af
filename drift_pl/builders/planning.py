"""What a run takes of a device: bytes by part, the phase that is the peak, the speed, and what to change for less.

Counted from shapes, without weights (`footprint.py`), for one process. Not counted: what the allocator loses to gaps
(`MARGIN`), kernels' workspaces, and rewards that are not networks of this package. Prompts are encoded once, before.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drift_pl.builders.devices import Device
from drift_pl.builders.method import build_method, build_update
from drift_pl.builders.planned_model import Model, model_of
from drift_pl.builders.planned_scorers import Scorer, scorers_of, unknown_scorers
from drift_pl.config.batches import derive_batches, sampling_micro_batch, world_size
from drift_pl.config.schema import Config
from drift_pl.config.schema_levers import TEXTS
from drift_pl.core.files import local_path, write_json
from drift_pl.training.eight_bit import BYTES_PER_MOMENT
from drift_pl.training.updates.protocol import Update

FLOAT, GB = 4, 1e9
CONTEXT = int(0.6e9)
"""Bytes that CUDA and its libraries take before the first tensor; not part of torch.cuda.max_memory_allocated."""
MARGIN = 0.05
"""Share of the memory that gaps between blocks make useless: an estimate."""


@dataclass(frozen=True)
class Plan:
    """Counts for one process.

    Attributes:
        parts: what is there in every phase -> bytes.
        phases: rollout, decode, score, update -> bytes on top of the parts.
        images: of an iteration, over all processes.
        flops: of an iteration, over all processes.
        model: its passes.
        unknown: rewards and encoders that are not counted.
    """

    parts: Mapping[str, int]
    phases: Mapping[str, int]
    images: int
    flops: float
    processes: int
    model: Model
    unknown: tuple[str, ...]

    @property
    def peak_phase(self) -> str:
        return max(self.phases, key=lambda phase: self.phases[phase])

    @property
    def peak(self) -> int:
        """Bytes of tensors at the highest point: to compare with torch.cuda.max_memory_allocated."""
        return sum(self.parts.values()) + self.phases[self.peak_phase]

    @property
    def needed(self) -> float:
        """Bytes of a device: the peak, the gaps and what CUDA takes."""
        return self.peak * (1 + MARGIN) + CONTEXT

    def fits(self, device: Device) -> bool:
        return self.needed <= device.gigabytes * GB


def plan_of(config: Config) -> Plan:
    """Counts a run of a config; `objective.micro_batch=auto` counts as 1.

    Raises:
        UserError: the model's configuration is not known.
    """
    offload = config.policy.offload
    model, batches, processes = model_of(config), derive_batches(config), world_size(config)
    images = batches.images_per_process
    scorers = scorers_of(config, config.prompts.group_size)
    micro, sampled = config.objective.micro_batch or 1, sampling_micro_batch(config) or 1
    parts = {
        **weights_of(config, model, processes),
        **({} if offload else {scorer.name: scorer.bytes for scorer in scorers}),
        "kept of the iteration": kept_bytes(config, model, images),
    }
    training = [scorer for scorer in scorers if scorer.in_training]
    score = max((scorer.run.peak for scorer in training), default=0)
    if offload:
        score += sum(scorer.bytes for scorer in training)
    once = weight_copies(config, model)
    phases = {
        "rollout": model.sample.peak * sampled + model.offloads * model.vae,
        "decode": model.decode.peak * sampled + model.offloads * model.vae,
        "score": score,
        "update": once + (model.update.peak - model.update.kept - once) * micro,
    }
    flops = iteration_flops(config, model, scorers)
    unknown = tuple(unknown_scorers(config))
    return Plan(parts, phases, batches.images_per_iteration, flops, processes, model, unknown)


def weights_of(config: Config, model: Model, processes: int) -> dict[str, int]:
    """Weights and the state of their training, after the first optimizer step."""
    objective, whole = config.objective, config.policy.tuning == "full"
    shards = processes if config.trainer.strategy == "fsdp" else 1
    average = FLOAT if objective.ema_decay else 0
    moment = BYTES_PER_MOMENT if objective.optimizer == "adamw8bit" else FLOAT
    lagging = FLOAT if _lags(config) else 0
    state = int(model.trained * (2 * FLOAT + 2 * moment + average + lagging))
    if whole and objective.kl_weight and config.policy.reference_device == "device":
        state += model.trained * FLOAT
    adam = "8-bit Adam" if objective.optimizer == "adamw8bit" else "Adam"
    named = f"{model.trained / 1e6:.1f} M trained weights: gradients, {adam}" + (", average" if average else "")
    named += ", old policy" if lagging else ""
    parts = {
        f"denoiser, {model.parameters / 1e9:.2f} B weights, {config.policy.quantisation or model.dtype}": model.frozen,
        named: state,
        "autoencoder, float32": 0 if model.offloads else model.vae,
        "text encoders": 0 if model.offloads else model.text,
    }
    return {name: size // (shards if name != "autoencoder, float32" else 1) for name, size in parts.items() if size}


def weight_copies(config: Config, model: Model) -> int:
    """Copies of float32 weights in the precision of a pass, which the backward pass keeps once for all images."""
    cast = config.trainer.precision in ("bf16-mixed", "16-mixed") and model.dtype == "float32"
    return 2 * model.parameters if cast and not config.policy.gradient_checkpointing else 0


def kept_bytes(config: Config, model: Model, images: int) -> int:
    """Latents of the trained steps, final latents, images and conditions of an iteration, in float32."""
    batches = derive_batches(config)
    has_own_text = config.incentive.prompting.rule in TEXTS
    rows = images if has_own_text else max(1, images // config.prompts.group_size)
    steps = batches.trained_steps * (1 + len(_update(config).keep | build_method(config).keep)) + 1
    levels = 4 * batches.noise_levels if batches.noise_levels else steps
    return images * FLOAT * (model.latent * (levels + 1) + model.pixels) + (rows + 1) * model.condition


def iteration_flops(config: Config, model: Model, scorers: list[Scorer]) -> float:
    """Of all images of an iteration; each is trained on."""
    objective, batches = config.objective, derive_batches(config)
    trained = (batches.noise_levels or batches.trained_steps) * objective.inner_epochs
    old = batches.noise_levels * old_passes(config)
    reference = trained * (objective.kl_weight > 0)
    denoiser = (config.sampler.steps + old + reference) * model.sample.flops + trained * model.update.flops
    score = sum(scorer.run.flops / scorer.images for scorer in scorers if scorer.in_training)
    return batches.images_per_iteration * (denoiser + model.decode.flops + score)


def old_passes(config: Config) -> float:
    """Passes of an image at a noise level by the policies that the loss compares with, see `ForwardPasses`.

    Those of the policy of now are made before the first optimizer step, for the images of the later ones; those of one
    that lags behind for all images.
    """
    objective, lags = config.objective, _lags(config)
    if objective.loss == "nft" and lags:
        return 1.0
    sampling = 1.0 if objective.inner_epochs > 1 else 1 - 1 / objective.updates
    return sampling + lags


def _lags(config: Config) -> bool:
    """Whether there is an old policy that lags behind."""
    return getattr(_update(config), "lag", None) is not None


def _update(config: Config) -> Update:
    """The update; what there is to warn of is said when a run is built."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_update(config)


def as_record(plan: Plan, name: str, device: Device, utilisation: float) -> dict[str, Any]:
    """The plan as JSON."""
    seconds = plan.flops / (device.tflops * 1e12 * utilisation * plan.processes)
    return {
        "device": name,
        "device_gb": device.gigabytes,
        "device_tflops": device.tflops,
        "utilisation": utilisation,
        "processes": plan.processes,
        "parts_bytes": dict(plan.parts),
        "phases_bytes": dict(plan.phases),
        "peak_phase": plan.peak_phase,
        "peak_bytes": plan.peak,
        "fits": plan.fits(device),
        "images_per_iteration": plan.images,
        "flops_per_iteration": plan.flops,
        "images_per_s": plan.images / seconds,
        "not_counted": list(plan.unknown),
    }


def write_record(name: str, record: Mapping[str, Any]) -> None:
    """Writes `as_record` as a JSON file, completely or not at all."""
    write_json(local_path(name), record)
