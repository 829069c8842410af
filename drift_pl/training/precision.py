"""Computing in float16: gradients are scaled so that small ones do not vanish, and steps that overflow are skipped."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from drift_pl.core.errors import UserError

FLOAT16 = ("16-mixed", "16-true")
"""Settings of `trainer.precision` that need a scaled loss."""

SMALLEST_SCALE = 1.0
"""A gradient that overflows even at this scale is no matter of scaling."""


class ScaledPrecision(MixedPrecision):
    """float16 with a loss that is scaled (arXiv 1710.03740), for an update that clips its own gradients.

    Lightning's own unscales gradients in the optimizer step, after they are clipped here, and replaces float16 by
    bfloat16 on a CPU. Weights that train, their gradients and log-probabilities are float32 in any case.

    Args:
        device: type of the device, `cuda` or `cpu`.
        mixed: each operation is computed in float16 or float32, as suits it (autocast); False: in the dtype of the
            frozen weights.
    """

    def __init__(self, device: str, mixed: bool = True) -> None:
        super().__init__("16-mixed", device, torch.amp.GradScaler(device))
        self.mixed = mixed

    def autocast_context_manager(self) -> Any:
        return super().autocast_context_manager() if self.mixed else nullcontext()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divides the gradients by the scale, once before each step."""
        assert self.scaler is not None
        self.scaler.unscale_(optimizer)

    def optimizer_step(self, optimizer: Any, model: Any, closure: Callable[[], Any], **kwargs: Any) -> Any:
        """Steps unless a gradient is infinite or NaN, and adapts the scale."""
        assert self.scaler is not None
        closure()
        self._after_closure(model, optimizer)
        output = self.scaler.step(optimizer, **kwargs)
        self.scaler.update()
        return output

    def refuse_hopeless(self, iteration: int) -> None:
        """Is called when a gradient has overflowed.

        Raises:
            UserError: a smaller scale would not help.
        """
        assert self.scaler is not None
        if self.scaler.get_scale() <= SMALLEST_SCALE:
            raise UserError(
                f"iteration {iteration}: the gradient is not finite at any loss scale: start another run with a lower "
                "objective.learning_rate, or with trainer.precision=bf16-mixed or 32-true"
            )


def autocast_context(precision: str, device: str) -> AbstractContextManager[Any]:
    """The context of a precision of `FLOAT16` where nothing trains."""
    return ScaledPrecision(device, mixed=precision == "16-mixed").autocast_context_manager()
