"""Foreign models behind one narrow protocol; the only room that imports diffusers and peft."""

from drift_pl.policies.flux import FluxPolicy
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.policies.zimage import ZImagePolicy

POLICIES = {
    "sd3": StableDiffusion3Policy,
    "flux": FluxPolicy,
    "zimage": ZImagePolicy,
}
