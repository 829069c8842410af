"""The device and precision of a run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.fabric import Fabric
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.locate import first_line
from drift_pl.training.eight_bit import refuse_optimizer
from drift_pl.training.precision import FLOAT16, ScaledPrecision, autocast_context


def refuse_hardware(config: Config) -> None:
    """Checks what a run computes on, before anything is loaded.

    Raises:
        UserError: an accelerator, a device or a precision is not there.
    """
    trainer = config.trainer
    refuse_precision(trainer.accelerator, trainer.precision)
    with lightning_refusals(config):
        trial = L.Trainer(
            accelerator=accelerator_for(trainer.accelerator),
            devices=trainer.devices,
            precision=None if trainer.precision in FLOAT16 else trainer.precision,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    refuse_text_device(config.policy.text_encoder_device)
    refuse_offload(config, trial.strategy.root_device)
    set_tf32(trainer.tf32, trial.strategy.root_device.type)
    refuse_storage(config.policy.storage, trial.strategy.root_device.type)
    refuse_optimizer(config.objective.optimizer, trial.strategy.root_device.type)


def refuse_offload(config: Config, device: torch.device) -> None:
    """Raises a `UserError` for offload where there is nothing to leave."""
    if config.policy.offload and device.type == "cpu":
        raise UserError(
            "policy.offload=true needs an accelerator, and this run computes on the cpu: use policy.offload=false"
        )


def set_tf32(tf32: bool | None, device: str) -> None:
    """Whether float32 products and convolutions of a CUDA device are computed in TF32, for the whole process.

    Ten bits of mantissa for products, with float32 sums: rewards and the autoencoder, which are float32 under any
    precision, become several times as fast.

    Args:
        tf32: None leaves torch's own choice.
        device: type of the run's device; others than `cuda` have no TF32.
    """
    if tf32 is not None and device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32


def refuse_storage(storage: str | None, device: str) -> None:
    """Raises a `UserError` for stored weights of a dtype that a device lacks."""
    if storage is not None and device not in ("cpu", "cuda"):
        raise UserError(
            f"policy.storage={storage} is for CUDA devices and CPUs, and this run computes on {device}: use "
            "policy.storage=null"
        )


def refuse_text_device(place: str | None) -> None:
    """Raises a `UserError` for a device of the text encoders that is not there."""
    try:
        torch.empty(0, device=place).tolist()  # which a device without memory, `meta`, cannot do
    except Exception as error:  # torch has several classes of errors for missing devices
        raise UserError(
            f"policy.text_encoder_device={place} cannot be used here ({first_line(error)}): use cpu, or null"
        ) from error


@contextmanager
def lightning_refusals(config: Config, further: Sequence[str] = ()) -> Iterator[None]:
    """Turns what Lightning says of its own settings into one line.

    Args:
        further: names of callbacks that are among what it is given.

    Raises:
        UserError: an accelerator is not there, or settings do not go together.
    """
    trainer = config.trainer
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Lightning has several classes of errors for missing hardware and for settings
        if further and isinstance(error, MisconfigurationException):  # what is without them has been tried before
            names = ", ".join(further)
            raise UserError(
                f"trainer.callbacks: Lightning refuses one of {names} ({first_line(error)}): leave it out"
            ) from error
        settings = {name: getattr(trainer, name) for name in ("accelerator", "devices", "num_nodes", "precision")}
        given = " ".join(f"trainer.{name}={value}" for name, value in settings.items())
        raise UserError(
            f"{given} cannot be used here ({first_line(error)}): use e.g. trainer.accelerator=cpu trainer.devices=1"
        ) from error


def choose_device(config: Config) -> tuple[torch.device, Callable[[], AbstractContextManager[Any]]]:
    """The device of a command without training, and the context of its precision; sets the number of threads.

    Raises:
        UserError: the accelerator cannot be used.
    """
    trainer = config.trainer
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    refuse_precision(trainer.accelerator, trainer.precision)
    refuse_text_device(config.policy.text_encoder_device)
    try:
        precision = None if trainer.precision in FLOAT16 else trainer.precision
        fabric = Fabric(accelerator=accelerator_for(trainer.accelerator), devices=1, precision=precision)
    except Exception as error:  # Lightning has several classes of errors for missing hardware
        raise UserError(
            f"accelerator={trainer.accelerator} cannot be used here ({first_line(error)}): use e.g. accelerator=cpu"
        ) from error
    set_tf32(trainer.tf32, fabric.device.type)
    if precision is None:
        return fabric.device, partial(autocast_context, trainer.precision, fabric.device.type)
    return fabric.device, fabric.autocast


def build_precision(config: Config) -> list[ScaledPrecision]:
    """The plugin of a precision that Lightning itself does not give; empty for the others."""
    trainer = config.trainer
    if trainer.precision not in FLOAT16:
        return []
    return [ScaledPrecision(device_type(trainer.accelerator), mixed=trainer.precision == "16-mixed")]


def accelerator_for(name: str) -> str:
    """The name for Lightning, which on a Mac would choose MPS: it has no float64, in which statistics are computed."""
    if torch.cuda.is_available() or not torch.backends.mps.is_available():
        return name
    return {"auto": "cpu", "gpu": "cuda"}.get(name, name)


def device_type(accelerator: str) -> str:
    """`cuda` or `cpu`: what a name of an accelerator stands for here."""
    if accelerator in ("cpu", "cuda"):
        return accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


def refuse_precision(accelerator: str, precision: str) -> None:
    """Raises a `UserError` for a precision that a device lacks, or emulates many times slower."""
    if accelerator not in ("auto", "gpu", "cuda") or precision != "bf16-mixed" or not torch.cuda.is_available():
        return
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name()
        raise UserError(f"trainer.precision=bf16-mixed: {name} has no bfloat16; use trainer.precision=32-true")
