"""Foreign models behind one narrow protocol; the only room that imports diffusers and peft."""

from drift_pl.policies.flow import StableDiffusion3Policy

POLICIES = {"sd3": StableDiffusion3Policy}
