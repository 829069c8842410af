"""Checkpoint files: a failed write leaves the old one, ids survive a change of strategy."""

from pathlib import Path

import pytest
import torch

from drift_pl.core.errors import UserError
from drift_pl.training.checkpointing import AtomicCheckpointIO, key_by_position, read_checkpoint


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in training/checkpointing.py: a checkpoint is written in place."""
    path = tmp_path / "deep" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"value": 1}, path)
    original = torch.save

    def cut_short(content: object, file: Path) -> None:
        file.write_bytes(b"half of a checkpoint")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(OSError, match="no space"):
        AtomicCheckpointIO().save_checkpoint({"value": 2}, path)
    monkeypatch.setattr(torch, "save", original)
    assert torch.load(path, weights_only=True) == {"value": 1}
    assert list(path.parent.iterdir()) == [path], "half a file is left behind"


def test_ids_become_positions_among_all_parameters() -> None:
    """Two trained parameters at positions 3 and 5; an order-based load still takes the result."""
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (2, 4)]
    optimizer = torch.optim.AdamW(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer.state_dict()
    key_by_position(state, [3, 5])
    assert list(state["state"]) == [3, 5]
    assert state["param_groups"][0]["params"] == [3, 5]
    assert state["state"][5]["exp_avg"].shape == (4,)
    fresh = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(size)) for size in (2, 4)])
    fresh.load_state_dict(state)
    assert fresh.state_dict()["state"][1]["exp_avg"].shape == (4,)


def test_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    """Checkpoints are read with weights_only: a pickled function is not loaded, let alone called."""
    path = tmp_path / "evil.ckpt"
    torch.save({"PromptDataModule": print}, path)
    with pytest.raises(UserError, match="is not a checkpoint"):
        read_checkpoint(path)
