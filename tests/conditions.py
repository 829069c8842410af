"""Made-up encoded prompts for tests of the prompting lever."""

import torch

from drift_pl.core.types import Condition

# A Stable-Diffusion-3-like condition: CLIP tokens padded from 20 to 32 channels, full tokens, appended zero tokens.
CHANNELS = torch.tensor([20] * 40 + [32] * 20 + [0] * 4)
WIDTH = 32
WRITTEN = torch.arange(WIDTH) < CHANNELS[:, None]


def condition(generator: torch.Generator, rows: int = 4, *, same: bool = False) -> Condition:
    """Prompts whose tokens differ in spread by powers of four and have a large mean; or one prompt, repeated."""
    tokens = torch.randn(rows, len(CHANNELS), WIDTH, generator=generator)
    tokens = 3 + tokens * 4.0 ** torch.arange(rows)[:, None, None]
    pooled = torch.randn(rows, 8, generator=generator)
    if same:
        tokens, pooled = tokens[:1].expand(rows, -1, -1), pooled[:1].expand(rows, -1)
    return Condition(tokens * WRITTEN, pooled.clone(), CHANNELS)
