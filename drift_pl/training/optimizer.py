"""Optimizer settings: which one, warm-up, gradient clipping, the weight average."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drift_pl.core.errors import UserError
from drift_pl.functional.schedule import warmup_factor
from drift_pl.policies.sharding import whole
from drift_pl.training.eight_bit import eight_bit_adamw
from drift_pl.training.ema import ParameterAverage
from drift_pl.training.precision import ScaledPrecision


@dataclass(frozen=True)
class OptimizerPlan:
    """Settings of the optimizer.

    Attributes:
        learning_rate: > 0.
        weight_decay: >= 0.
        warmup: iterations over which the learning rate rises linearly; 0 for none.
        max_grad_norm: gradients are clipped to this norm, > 0.
        ema_decay: decay of the weight average that is evaluated and exported, in [0, 1); 0 for no average.
        ema_every: optimizer steps between two updates of the average, at least 1.
        optimizer: `adamw`, or `adamw8bit`, whose moments take a byte each.
    """

    learning_rate: float
    weight_decay: float = 0.0
    warmup: int = 0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0
    ema_every: int = 1
    optimizer: str = "adamw"

    def create(self, parameters: Iterable[nn.Parameter], scaled: bool = False) -> torch.optim.Optimizer:
        """AdamW, fused into one kernel on CUDA, but where gradients are scaled: it would unscale them itself.

        Not on a CPU, where it would gain 0.1 % of an iteration: its vector code rounds differently from its scalar
        code, so that a weight's last bit would depend on how the weights are sharded.
        """
        parameters = list(parameters)
        if self.optimizer == "adamw8bit":
            return eight_bit_adamw(parameters, self.learning_rate, self.weight_decay)
        fused = True if not scaled and all(parameter.is_cuda for parameter in parameters) else None
        return torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)

    def average(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> ParameterAverage | None:
        """The weight average of named parameters, if there is to be one."""
        return ParameterAverage(parameters, self.ema_decay, self.ema_every) if self.ema_decay > 0 else None

    def warm_up(self, optimizer: torch.optim.Optimizer, iteration: int) -> None:
        """Sets the learning rate of an iteration, counted from 0."""
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * warmup_factor(iteration, self.warmup)

    def clip(self, optimizer: torch.optim.Optimizer, iteration: int, scaled: ScaledPrecision | None = None) -> Tensor:
        """Clips the gradient's norm in place and returns the norm before; unscaled first, if the loss was scaled.

        A norm that is not finite says that a scaled gradient has overflowed; the optimizer will skip its step.

        Raises:
            UserError: it is not finite, and no matter of scaling; the optimizer has not stepped.
        """
        if scaled is not None:
            scaled.unscale(optimizer)
        trained = [each for group in optimizer.param_groups for each in group["params"] if each.requires_grad]
        norm = whole(torch.nn.utils.clip_grad_norm_(trained, self.max_grad_norm))
        if norm.isfinite():
            return norm
        if scaled is None:
            raise UserError(
                f"iteration {iteration}: the gradient is not finite: start another run with a lower "
                "objective.learning_rate, or with trainer.precision=32-true"
            )
        scaled.refuse_hopeless(iteration)
        return norm
