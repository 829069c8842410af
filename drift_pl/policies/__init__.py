"""Foreign models behind one narrow protocol; the only room that imports diffusers and peft."""

from drift_pl.policies.sd3 import StableDiffusion3Policy

POLICIES = {"sd3": StableDiffusion3Policy}
