"""Callbacks' state in checkpoints, which are read without running code."""

from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from drift_pl.builders.callbacks import build_further_callbacks
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.core.types import Scores
from drift_pl.incentive.method import Method
from drift_pl.incentive.methods.protocol import RewardMethod
from drift_pl.training.callback_state import unreadable
from drift_pl.training.checkpoint_content import not_restored
from drift_pl.training.checkpointing import AtomicCheckpointIO


class Keeps(L.Callback):
    value: Any = None

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0.5, ""),
        ({"a": [1, None, (2.0, "b")], "c": torch.ones(2), "d": {3}}, ""),
        (OrderedDict(a=torch.nn.Parameter(torch.ones(1))), ""),
        (torch.float16, ""),  # which torch's reader knows
        (np.float64(0.5), "numpy.float64"),
        ([{"deep": Path("a")}], "pathlib"),
        (deque([1]), "collections.deque"),
        (lambda: 0, "builtins.function"),
    ],
)
def test_what_torch_reads_without_running_code(value: Any, kind: str, tmp_path: Path) -> None:
    """Oracle: `torch.load` itself, of a file."""
    found = unreadable({"value": value})
    assert found.startswith(kind)
    assert bool(found) == bool(kind)
    try:
        torch.save({"value": value}, tmp_path / "file")
        torch.load(tmp_path / "file", weights_only=True)
    except Exception:
        assert kind


def test_a_state_that_could_not_be_read_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in builders/callbacks.py: every checkpoint of a run is unreadable, which its end does not say."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    name = f"{Path(__file__).stem}:Keeps"

    def build(value: object) -> list[L.Callback]:
        monkeypatch.setattr(Keeps, "value", value)
        return build_further_callbacks(parse([f"trainer.callbacks=[{{name: '{name}'}}]"]).config)

    assert len(build(0.5)) == 1
    with pytest.raises(
        UserError, match=rf"^trainer\.callbacks\.0: the state_dict of '{name}' holds numpy\.float64, with"
    ):
        build(np.float64(0.5))


def test_one_that_comes_up_during_training_costs_its_own_state_alone(tmp_path: Path) -> None:
    """Catches in training/checkpointing.py: a run's weights cannot be read for a number that a callback keeps."""
    states = {"Good": {"v": 1}, "Keeps": {"v": np.float64(0.5)}}
    with pytest.warns(UserWarning, match=r"state_dict of Keeps holds numpy\.float64: it is left out of the checkpoint"):
        AtomicCheckpointIO().save_checkpoint({"callbacks": states, "state_dict": {}}, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"] == {"Good": {"v": 1}}


class Refuses(RewardMethod):
    def reward(self, scores: Scores) -> torch.Tensor:
        return {}["zzz"]


def test_a_callback_that_cannot_take_its_state_up_is_told_apart_from_a_damaged_file(tmp_path: Path) -> None:
    """Any code of somebody's stands for it. Catches in training/checkpoint_content.py: a sound file called damaged."""
    with pytest.raises(KeyError) as caught:
        Method(reward_method=Refuses()).effective_reward(Scores(torch.zeros(1, 2), {}, None))
    said = str(not_restored(tmp_path / "last.ckpt", caught.value))
    assert "a callback of the run cannot take up its state: KeyError: 'zzz' (" in said
    assert "damaged" not in said
    assert "is damaged: it cannot be restored (one)" in str(not_restored(tmp_path / "last.ckpt", RuntimeError("one")))
