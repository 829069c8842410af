"""Data passed between stages: rows stay together, indices are global."""

from dataclasses import replace

import pytest
import torch

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Condition


def make_condition(rows: int, *, pooled: bool = True) -> Condition:
    tokens = torch.arange(rows * 6.0).view(rows, 2, 3)
    return Condition(tokens, torch.arange(float(rows))[:, None] if pooled else None, torch.tensor([3, 0]))


def test_a_groups_rows_are_contiguous() -> None:
    """Catches in core/types.py: groups interleaved instead of contiguous."""
    repeated = make_condition(2).repeat_interleave(3)
    assert len(repeated) == 6
    assert repeated.pooled_BE[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert repeated.tokens_BLE[:, 0, 0].tolist() == [0, 0, 0, 6, 6, 6]


@pytest.mark.parametrize("pooled", [True, False])
def test_rows_and_concatenation_undo_each_other(pooled: bool) -> None:
    whole = make_condition(4, pooled=pooled)
    parts = Condition.concatenate([whole[:1], whole[torch.tensor([1, 2])], whole[3:]])
    assert torch.equal(parts.tokens_BLE, whole.tokens_BLE)
    assert torch.equal(parts.num_channels_L, whole.num_channels_L)
    assert (parts.pooled_BE is None) == (not pooled)
    if pooled:
        assert torch.equal(parts.pooled_BE, whole.pooled_BE)


def test_each_row_keeps_its_own_number_of_tokens() -> None:
    """Catches in core/types.py: lengths not indexed with their rows; the first condition's lengths for all."""
    whole = replace(make_condition(4), num_tokens_B=torch.tensor([2, 0, 1, 2]))
    parts = Condition.concatenate([whole[torch.tensor([3, 2])], whole[:1], whole[1:2].to("cpu")])
    assert parts.num_tokens_B.tolist() == [2, 1, 2, 0]
    assert whole[1:3].repeat_interleave(2).num_tokens_B.tolist() == [0, 0, 1, 1]
    assert whole.to("meta").num_tokens_B.device.type == "meta"
    assert make_condition(2)[:1].num_tokens_B is None


def test_two_processes_number_their_images_as_one_does() -> None:
    assert PromptBatch(7, 3, ("a", "b", "c", "d"), groups=(0, 1, 2, 3), group_size=2).samples == list(range(8))
    assert PromptBatch(7, 3, ("a", "c"), groups=(0, 2), group_size=2).samples == [0, 1, 4, 5]
    assert PromptBatch(7, 3, ("b", "d"), groups=(1, 3), group_size=2).samples == [2, 3, 6, 7]
    assert PromptBatch(7, 3, ("b", "d"), groups=(1, 3), group_size=2).repeated_prompts == ["b", "b", "d", "d"]
