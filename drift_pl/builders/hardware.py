"""The device and precision of a run."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning.fabric import Fabric

from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.locate import first_line


def choose_device(config: Config) -> tuple[torch.device, Callable[[], AbstractContextManager[Any]]]:
    """The device of a command without training, and the context of its precision; sets the number of threads.

    Raises:
        UserError: the accelerator cannot be used.
    """
    trainer = config.trainer
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    try:
        fabric = Fabric(accelerator=trainer.accelerator, devices=1, precision=trainer.precision)
    except Exception as error:  # Lightning has several classes of errors for missing hardware
        raise UserError(
            f"accelerator={trainer.accelerator} cannot be used here ({first_line(error)}): use e.g. accelerator=cpu"
        ) from error
    return fabric.device, fabric.autocast


def refuse_precision(accelerator: str, precision: str) -> None:
    """Raises a `UserError` for bf16-mixed where the accelerator emulates bfloat16, many times slower, or lacks it."""
    if accelerator not in ("auto", "gpu", "cuda") or precision != "bf16-mixed" or not torch.cuda.is_available():
        return
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name()
        raise UserError(f"trainer.precision=bf16-mixed: {name} has no bfloat16; use trainer.precision=32-true")
