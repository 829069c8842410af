"""Which families train weights that act on nothing: DDP must know, for it waits for the gradient of each."""

import pytest
import torch
from tiny_policies import TARGETS, load_tiny

from drift_pl.config.schema_model import LoraConfig

FAMILIES = ("sd3", "flux", "zimage", "qwen_image", "flux2_klein", "sana", "wan", "sd15", "sdxl")
TWO_STREAMS = ("sd3", "flux", "qwen_image", "flux2_klein")
"""Those that have all default targets."""


@pytest.mark.parametrize("tuning", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_trained_weights_without_a_gradient_are_announced(
    family: str, tuning: str, request: pytest.FixtureRequest, generator: torch.Generator
) -> None:
    """With the default targets of an adapter, or with all weights.

    Catches in policies/qwen_image.py: several processes fail in the first optimizer step.
    """
    if family in ("sd15", "sdxl"):
        folder = request.getfixturevalue("tiny_unets")[family]
    else:
        folder = request.getfixturevalue("tiny_pipeline" if family == "sd3" else f"tiny_{family}")
    targets = LoraConfig().targets if family in TWO_STREAMS else TARGETS
    policy = load_tiny(family, folder, tuning=tuning, targets=tuple(targets), resolution=16)
    latents = torch.randn(1, *policy.latent_shape, generator=generator)
    condition, negative = policy.encode(["a red circle"]), policy.encode([""], negative=True)
    policy.predict(latents, policy.sigmas(4)[1], condition, negative, 1.0).square().sum().backward()
    unused = [name for name, weight in policy.trainable_parameters() if weight.grad is None]
    assert bool(unused) == getattr(policy, "has_unused_parameters", False), unused
