"""By what encoded prompts are kept on disk: it changes with all that they depend on, and with nothing else."""

from collections.abc import Callable

import pytest
import torch

from drift_pl.policies.sd3 import StableDiffusion3Policy


def test_the_same_encoders_have_the_same_key(
    tiny_policy: StableDiffusion3Policy, tune: Callable[..., None], generator: torch.Generator
) -> None:
    """The denoiser, which trains, does not count."""
    key = tiny_policy.encoder_key()
    assert len(key) == 12
    tune(tiny_policy)
    assert tiny_policy.encoder_key() == key


@pytest.mark.parametrize("changed", ["weight", "length", "token", "dtype"])
def test_whatever_an_encoding_depends_on_changes_the_key(tiny_policy: StableDiffusion3Policy, changed: str) -> None:
    """Catches in policies/encoder_key.py: only the first text encoder counts; vocabularies do not count."""
    key, pipeline = tiny_policy.encoder_key(), tiny_policy.pipeline
    if changed == "weight":
        with torch.no_grad():
            next(reversed(list(pipeline.text_encoder_2.parameters()))).add_(1e-3)
    if changed == "length":
        tiny_policy.max_sequence_length += 1
    if changed == "token":
        pipeline.tokenizer.add_tokens(["unheard-of"])
    if changed == "dtype":
        pipeline.text_encoder.bfloat16()
    assert tiny_policy.encoder_key() != key
