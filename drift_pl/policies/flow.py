"""Base class of rectified-flow policies: the process, and the shifted grid of noise levels."""

import copy
from collections.abc import Sequence

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
        config = scheduler.config
        mu = calculate_shift(
            num_image_tokens,
            config.base_image_seq_len,
            config.max_image_seq_len,
            config.base_shift,
            config.max_shift,
        )
        scheduler.set_timesteps(sigmas=list(levels), mu=mu)
        return scheduler.sigmas.float().cpu()
