"""A digest of the text encoders of a pipeline, by which encoded prompts are kept on disk."""

import hashlib
from collections.abc import Iterable
from typing import Any

import diffusers
import torch
import transformers

NUMBERS = 4096
"""Of every weight, that count: enough to tell one training of a network from another, and quick with any size."""


def text_encoders_key(encoders: Iterable[Any], tokenizers: Iterable[Any], settings: str) -> str:
    """Twelve hex digits over text encoders, tokenizers, the versions of the libraries that run them, and `settings`."""
    versions = (torch.__version__, transformers.__version__, diffusers.__version__)
    content = hashlib.sha256(f"{settings} {versions}".encode())
    for number, encoder in enumerate(encoders):
        for name, weight in encoder.state_dict().items():
            content.update(f"{number} {name} {weight.dtype} {tuple(weight.shape)}".encode())
            numbers = weight.detach().flatten()[:NUMBERS].cpu().contiguous()
            content.update(numbers.view(torch.uint8).numpy().tobytes())
    for tokenizer in tokenizers:
        content.update(f"{tokenizer.model_max_length} {sorted(tokenizer.get_vocab().items())}".encode())
    return content.hexdigest()[:12]
