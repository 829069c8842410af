"""What rectified-flow pipelines have in common: the process, and the shifted grid of noise levels."""

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
            num_image_tokens: what a scheduler with dynamic shifting shifts by: the more tokens, the more noise
                (resolution-dependent shifting, arXiv 2403.03206). Others shift by a constant.
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
