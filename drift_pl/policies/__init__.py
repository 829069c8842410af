"""Foreign models behind one narrow protocol; the only room that imports diffusers and peft."""

from collections.abc import Callable

from drift_pl.policies.flux import FluxPolicy
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.policies.unet import StableDiffusionPolicy, StableDiffusionXLPolicy
from drift_pl.policies.zimage import ZImagePolicy

POLICIES: dict[str, Callable[..., PipelinePolicy]] = {
    "sd3": StableDiffusion3Policy,
    "flux": FluxPolicy,
    "zimage": ZImagePolicy,
    "sd15": StableDiffusionPolicy,
    "sdxl": StableDiffusionXLPolicy,
}
