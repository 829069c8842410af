"""Images of diffusers' own pipelines, from the noise that a policy starts with: what policies are compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler
from torch import Tensor

from drift_pl.policies.flow import euler_scheduler
from drift_pl.policies.flux import pack
from drift_pl.policies.pipeline import PipelinePolicy


def stock_pipeline(policy: PipelinePolicy, folder: Path) -> Any:
    """Of the policy's class, on its own copy of the weights, with the solver that the policy has."""
    optional: dict[str, Any] = dict.fromkeys(policy.optional_parts)
    pipeline: Any = policy.pipeline_class.from_pretrained(folder, **optional)
    pipeline.set_progress_bar_config(disable=True)
    if policy.process.name == "ddpm":
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    elif policy.family in ("sana", "wan"):
        pipeline.scheduler = euler_scheduler(pipeline.scheduler)
        pipeline.check_inputs = lambda *inputs: None  # which takes the published autoencoder's size for granted
    return pipeline


def stock_images(
    pipeline: Any,
    policy: PipelinePolicy,
    noise_BCHW: Tensor,
    prompts: Sequence[str],
    negative: str,
    guidance_scale: float,
    steps: int,
    side: int = 16,
) -> Tensor:
    """Images in [0, 1], [B, 3, H, W], with guidance in our sense; a video's frames side by side."""
    arguments: dict[str, Any] = {
        **{"prompt": list(prompts), "height": side, "width": side, "num_inference_steps": steps, "output_type": "pt"},
        policy.guidance_argument: guidance_scale + policy.guidance_offset,
        "latents": noise_BCHW.clone(),
    }
    if policy.sized_part is not None:
        arguments["max_sequence_length"] = policy.max_sequence_length
    if policy.family in ("flux", "qwen_image"):
        arguments["latents"] = pack(noise_BCHW)
    if policy.family == "flux2_klein":
        encoded, _ = pipeline.encode_prompt([negative] * len(prompts), max_sequence_length=policy.max_sequence_length)
        arguments["negative_prompt_embeds"] = encoded
    elif policy.family != "flux":
        arguments["negative_prompt"] = negative if policy.family == "sana" else [negative] * len(prompts)
    if policy.family == "sana":
        arguments["use_resolution_binning"] = False
    if policy.family == "wan":
        arguments |= {"num_frames": policy.frames, "width": noise_BCHW.shape[-1] * pipeline.vae_scale_factor_spatial}
        return pipeline(**arguments).frames.float().movedim(1, 3).flatten(3)
    return pipeline(**arguments).images.float()
