"""Entries of encoded prompts that a text encoder wrote, and their moments; the others are zero padding."""

import torch
from torch import Tensor

from drift_pl.core.rng import to_device
from drift_pl.core.types import Condition


def written_channels(condition: Condition) -> Tensor:
    """bool [L, E], or [B, L, E] where prompts differ in length: the entries that a text encoder wrote."""
    num_tokens, num_channels = condition.tokens_BLE.shape[1:]
    device = condition.tokens_BLE.device
    written_LE = torch.arange(num_channels, device=device) < to_device(condition.num_channels_L, device)[:, None]
    if condition.num_tokens_B is None:
        return written_LE
    present_BL = torch.arange(num_tokens, device=device) < condition.num_tokens_B[:, None]
    return present_BL[:, :, None] & written_LE


def written_places(condition: Condition) -> Tensor | None:
    """Of the written entries among the L x E of a row, int64 [N]; None where prompts differ in length."""
    if condition.num_tokens_B is not None:
        return None
    written_LE = torch.arange(condition.tokens_BLE.shape[2]) < condition.num_channels_L[:, None].cpu()
    return to_device(written_LE.flatten().nonzero().flatten(), condition.tokens_BLE.device)


def moments(values_BLE: Tensor, written: Tensor, place_N: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation of each row's written entries, float32 [B, 1, 1].

    Args:
        written, place_N: see `written_channels` and `written_places`.
    """
    if place_N is not None:
        written_BN = values_BLE.flatten(1)[:, place_N].float()
        return written_BN.mean(1)[:, None, None], written_BN.std(1, correction=0)[:, None, None]
    values_BLE, entries = values_BLE.float(), (1, 2)
    count_B11 = written.sum(entries, keepdim=True).clamp(min=1)
    mean_B11 = (values_BLE * written).sum(entries, keepdim=True) / count_B11
    square_B11 = ((values_BLE - mean_B11).square() * written).sum(entries, keepdim=True)
    return mean_B11, (square_B11 / count_B11).sqrt()
