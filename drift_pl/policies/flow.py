"""Base class of rectified-flow policies: the process, and the shifted grid of noise levels."""

import copy
from collections.abc import Sequence
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.process import FlowProcess, Process


class FlowPolicy(PipelinePolicy):
    """A rectified-flow pipeline. See `PipelinePolicy`."""

    process: Process = FlowProcess()

    def _shifted(self, levels: Sequence[float], num_image_tokens: int) -> Tensor:
        """`levels` [T] as the model's own scheduler shifts them, followed by 0: float32 [T + 1].

        Args:
            num_image_tokens: a scheduler with dynamic shifting shifts to more noise for more tokens (arXiv 2403.03206);
                others shift by a constant.
        """
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        scheduler.set_timesteps(sigmas=list(levels), mu=self._shift(num_image_tokens, len(levels)))
        return scheduler.sigmas.float().cpu()

    def _shift(self, num_image_tokens: int, num_steps: int) -> float:
        """mu of a scheduler with dynamic shifting."""
        config = self.pipeline.scheduler.config
        return calculate_shift(
            num_image_tokens,
            config.base_image_seq_len,
            config.max_image_seq_len,
            config.base_shift,
            config.max_shift,
        )

    def _own_grid(self, num_steps: int, **shift: float) -> Tensor:
        """Noise levels of the model's own scheduler, float32 [T + 1]; the time shift is in them.

        Args:
            shift: `mu`, if the scheduler shifts by it.
        """
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        scheduler.set_timesteps(num_steps, **shift)
        return scheduler.sigmas.float().cpu()


def euler_scheduler(scheduler: Any) -> FlowMatchEulerDiscreteScheduler:
    """Euler's solver with the time shift of a folder's own, which may be of several steps (DPM-Solver, UniPC).

    Raises:
        ValueError: it is none for flows.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return scheduler
    config = scheduler.config
    if config.get("prediction_type") != "flow_prediction" or not config.get("use_flow_sigmas"):
        raise ValueError(f"its scheduler is a {type(scheduler).__name__} that is not for flows")
    return FlowMatchEulerDiscreteScheduler(shift=config.get("flow_shift") or 1.0)
