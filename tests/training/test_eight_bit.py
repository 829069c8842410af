"""AdamW with 8-bit moments: against torch's AdamW, over a resume, in a checkpoint, and where it cannot be used."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld, assert_same_training_state
from torch import nn

from drift_pl.builders.planning import plan_of
from drift_pl.config.loading import parse
from drift_pl.core import locate
from drift_pl.core.errors import UserError
from drift_pl.training.checkpoint_content import check_content
from drift_pl.training.eight_bit import BYTES_PER_MOMENT, refuse_optimizer
from drift_pl.training.optimizer import OptimizerPlan

pytest.importorskip("bitsandbytes")
SIZES = ["evaluation.max_prompts=1", "policy.tuning=full", "objective.optimizer=adamw8bit"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Three iterations in one go."""
    return world.fit(tmp_path_factory.mktemp("whole") / "run", *SIZES, "trainer.iterations=3")


def trained(name: str, steps: int) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    """A matrix of 8192 numbers after steps on gradients that are drawn."""
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.randn(64, 128, generator=generator))
    optimizer = OptimizerPlan(0.01, weight_decay=0.1, optimizer=name).create([parameter])
    for _ in range(steps):
        parameter.grad = torch.randn(64, 128, generator=generator)
        optimizer.step()
    return parameter, optimizer


def test_the_first_step_is_that_of_adamw_and_later_ones_are_near_it() -> None:
    """Moments are rounded after a step, so that the first one is exact.

    Catches in training/optimizer.py: the weight decay not passed on.
    """
    exact, rounded = trained("adamw", 1)[0], trained("adamw8bit", 1)[0]
    torch.testing.assert_close(rounded, exact, rtol=1e-6, atol=1e-7)
    exact, rounded = trained("adamw", 10)[0], trained("adamw8bit", 10)[0]
    assert 0 < float((rounded - exact).abs().max()) < 0.1 * 10 * 0.01  # a tenth of the way


def test_its_state_has_the_size_that_plan_counts() -> None:
    """Catches in builders/planning.py: moments of floats."""
    state = trained("adamw8bit", 1)[1].state_dict()["state"][0]
    moments = sum(state[name].nbytes for name in ("state1", "state2", "absmax1", "absmax2"))
    assert moments == 2 * BYTES_PER_MOMENT * 64 * 128
    argv = ["experiment=shapes_flowgrpo", "policy.tuning=full"]
    wide, narrow = (plan_of(parse([*argv, f"objective.optimizer={name}"]).config) for name in ("adamw", "adamw8bit"))
    saved = sum(wide.parts.values()) - sum(narrow.parts.values())
    assert saved == pytest.approx(2 * (4 - BYTES_PER_MOMENT) * wide.model.trained, abs=1)


def test_a_resumed_run_is_the_uninterrupted_one(world: TinyWorld, whole: dict, tmp_path: Path) -> None:
    """Bit for bit, with codes and scales in the checkpoint.

    Catches in training/eight_bit.py: a state one level deeper, which a checkpoint's check refuses.
    """
    kinds = {value.dtype for value in (entry["state1"] for entry in whole["optimizer_states"][0]["state"].values())}
    assert kinds == {torch.uint8, torch.float32}  # large weights, and small ones
    world.fit(tmp_path / "run", *SIZES, "trainer.iterations=2")
    resumed = world.fit(tmp_path / "run", *SIZES, "trainer.iterations=3", "ckpt_path=last")
    assert_same_training_state(resumed, whole)


@pytest.mark.parametrize("name", ["absmax1", "qmap2"])
def test_a_checkpoint_whose_scales_are_cut_is_refused(name: str, whole: dict) -> None:
    """Catches in training/checkpoint_faults.py: 8-bit states taken as they are."""
    content = copy.deepcopy(whole)
    check_content(content, Path("last.ckpt"))
    states = content["optimizer_states"][0]["state"].values()
    state = next(entry for entry in states if name in entry)
    state[name] = state[name][:-1]
    with pytest.raises(UserError, match=rf"^ckpt_path=last\.ckpt is damaged: its optimizer_states have .* {name} is"):
        check_content(content, Path("last.ckpt"))


def test_an_overflowed_step_changes_nothing() -> None:
    """With a scaled loss, as for AdamW: the scaler leaves the step out."""
    scaler = torch.amp.GradScaler("cpu")
    parameter = nn.Parameter(torch.ones(64, 64))
    optimizer = OptimizerPlan(0.1, optimizer="adamw8bit").create([parameter], scaled=True)
    for factor, moved in ((float("inf"), False), (1.0, True)):
        scaler.scale((parameter * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert bool((parameter != 1).any()) is moved


def test_what_it_needs_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in builders/hardware.py: refused after the model has been loaded."""
    with pytest.raises(UserError, match=r"^objective\.optimizer=adamw8bit is for CUDA.*mps: use .*=adamw$"):
        refuse_optimizer("adamw8bit", "mps")
    monkeypatch.setattr(locate, "is_module", lambda name: name != "bitsandbytes")
    refuse_optimizer("adamw", "cpu")
    with pytest.raises(UserError, match=r"^objective\.optimizer=adamw8bit needs the package bitsandbytes: pip install"):
        refuse_optimizer("adamw8bit", "cpu")
