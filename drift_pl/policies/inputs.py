"""Inputs of a network: checked sizes, tensors on its device, texts of different lengths and of a chat."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drift_pl.core.errors import UserError, named
from drift_pl.core.rng import to_device
from drift_pl.core.types import Condition


def checked_side(side: int, unit: int) -> int:
    """The side of an image in pixels, if it is a multiple of `unit`.

    Raises:
        UserError: it is not; the message names one that is.
    """
    if side % unit:
        raise UserError(f"{named(side)} is not a multiple of {unit}: use e.g. {side // unit * unit or unit}")
    return side


def checked_length(length: int, largest: int, smallest: int = 1) -> int:
    """The number of text tokens, if a model takes that many.

    Raises:
        UserError: it does not; the message names one that works.
    """
    if not smallest <= length <= largest:
        raise UserError(
            f"policy.max_sequence_length={length}: this model takes {smallest} to {largest} text tokens, e.g. "
            f"{min(512, largest)}"
        )
    return length


def padded_condition(rows: Sequence[Tensor], length: int) -> Condition:
    """Texts of different lengths, each [L_b, E], as one condition of `length` tokens with zeros after each text's own.

    One length for all, so that conditions can be concatenated and a row's noise does not depend on the others.
    """
    width = rows[0].shape[-1]
    tokens_BLE = rows[0].new_zeros(len(rows), length, width)
    for tokens_LE, row_LE in zip(tokens_BLE, rows, strict=True):
        tokens_LE[: len(row_LE)] = row_LE
    device = tokens_BLE.device
    counts_B = torch.tensor([len(row_LE) for row_LE in rows], device=device)
    return Condition(tokens_BLE, None, torch.full((length,), width, device=device), counts_B)


def masked_condition(tokens_BLE: Tensor, mask_BL: Tensor | None, length: int) -> Condition:
    """`padded_condition` of the first tokens of each row, as many as its mask has; None: all."""
    counts = [tokens_BLE.shape[1]] * len(tokens_BLE) if mask_BL is None else mask_BL.sum(1).tolist()
    return padded_condition([row_LE[:count] for row_LE, count in zip(tokens_BLE, counts, strict=True)], length)


def as_chat(tokenizer: Any, prompt: str, thinking: bool) -> str:
    """A prompt as a user's message in the template of a language model."""
    messages = [{"role": "user", "content": prompt}]
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    return text


def valid_tokens(condition: Condition) -> tuple[Tensor, Tensor | None]:
    """Tokens up to the longest text of a batch, [B, L, E], and which of them are a text's own, bool [B, L]; None: all.

    What a batch is cut to depends on its rows alone, so a replay in the rollout's micro-batches is cut alike.
    """
    counts_B = condition.num_tokens_B
    assert counts_B is not None
    lengths = counts_B.tolist()
    longest = max(lengths)
    tokens_BLE = condition.tokens_BLE[:, :longest]
    if min(lengths) == longest:
        return tokens_BLE, None
    return tokens_BLE, torch.arange(longest, device=tokens_BLE.device) < counts_B[:, None]


def same_for_all(value: float, latents_BCHW: Tensor) -> Tensor:
    """One number for every row, [B], written by the device itself."""
    return torch.full((len(latents_BCHW),), value, device=latents_BCHW.device)


def per_channel(values: Sequence[float], latents_BCHW: Tensor) -> Tensor:
    """One number per channel, shaped to be broadcast over latents of any number of axes: [C, 1, 1]."""
    return to_device(torch.tensor(values), latents_BCHW.device).view(-1, *[1] * (latents_BCHW.ndim - 2))
