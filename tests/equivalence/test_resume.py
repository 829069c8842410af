"""A resumed run is the uninterrupted one, bit for bit: weights, optimiser, average."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import LONGEST_S
from runs import TinyWorld, assert_equal, assert_same_training_state, load

from drift_pl.config.experiments import read_mapping
from drift_pl.config.identity import identity_in_0_1
from drift_pl.core.errors import UserError
from drift_pl.training.experience import Experience
from drift_pl.training.module import DriftModule


@pytest.fixture(scope="module")
def whole(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Six iterations in one go."""
    return world.fit(tmp_path_factory.mktemp("whole") / "run", "trainer.iterations=6")


def test_same_seed_twice_is_the_same_run(world: TinyWorld, whole: dict, tmp_path: Path) -> None:
    assert_same_training_state(world.fit(tmp_path / "run", "trainer.iterations=6"), whole)


def test_another_seed_is_another_run(world: TinyWorld, whole: dict, tmp_path: Path) -> None:
    other = world.fit(tmp_path / "run", "trainer.iterations=6", "seed=1")
    with pytest.raises(AssertionError):
        assert_same_training_state(other, whole)


@pytest.mark.parametrize("first_part", [2, 3, 4])
def test_extended_run_equals_the_whole_one(world: TinyWorld, whole: dict, tmp_path: Path, first_part: int) -> None:
    """Also from the middle of what Lightning calls an epoch (two iterations here).

    Catches in training/module.py: the weight average is not restored.
    Catches in training/datamodule.py: resume starts the prompts again.
    Catches: resume starts the prompts, the schedule or the average again.
    """
    run_dir = tmp_path / "run"
    world.fit(run_dir, f"trainer.iterations={first_part}")
    assert load(run_dir)["PromptDataModule"]["iteration"] == first_part
    assert_same_training_state(world.fit(run_dir, "trainer.iterations=6", "ckpt_path=last"), whole)


def test_a_run_whose_average_waits_for_steps_resumes_where_it_was(world: TinyWorld, tmp_path: Path) -> None:
    """Two optimizer steps per iteration and an average at every third: the counter is in the checkpoint.

    Catches in training/optimizer.py: the interval of the average not passed on.
    """
    settings = ["objective.ema_every=3", "evaluation.max_prompts=1"]
    whole = world.fit(tmp_path / "whole", *settings, "trainer.iterations=3")
    world.fit(tmp_path / "run", *settings, "trainer.iterations=2")
    assert_same_training_state(world.fit(tmp_path / "run", "trainer.iterations=3", *settings, "ckpt_path=last"), whole)
    always = world.fit(tmp_path / "always", "evaluation.max_prompts=1", "trainer.iterations=3")
    assert_equal(always["state_dict"], whole["state_dict"], "weights")
    changed = [
        name
        for name, value in always["average"].items()
        if not torch.equal(torch.as_tensor(value), torch.as_tensor(whole["average"][name]))
    ]
    assert any("lora_B" in name for name in changed)


def test_run_that_breaks_inside_an_iteration_resumes_from_its_start(
    world: TinyWorld, whole: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The break comes after an optimiser step of iteration 3: that step must leave no trace.

    Catches in training/checkpointing.py: a broken iteration is saved half done.
    """
    run_dir = tmp_path / "run"
    original = DriftModule.update_policy

    def breaking(self: DriftModule, experience: Experience, *args: Any) -> None:
        original(self, experience, *args)
        if experience.batch.iteration == 3:
            raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(DriftModule, "update_policy", breaking)
        with pytest.raises(RuntimeError, match="out of memory"):
            world.fit(run_dir, "trainer.iterations=6")
    assert load(run_dir)["PromptDataModule"]["iteration"] == 3
    assert_same_training_state(world.fit(run_dir, "trainer.iterations=6", "ckpt_path=auto"), whole)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_killed_run_resumes_to_the_same_bits(world: TinyWorld, whole: dict, tmp_path: Path, kill: int) -> None:
    run_dir = tmp_path / "run"
    argv = [*world.overrides(), "objective.learning_rate=0.01", "objective.ema_decay=0.5", f"run_dir={run_dir}"]
    command = [sys.executable, "-m", "drift_pl.fit", *argv, "trainer.iterations=500"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(run_dir / "checkpoints" / "last.ckpt", process)
    os.kill(process.pid, kill)
    assert process.wait(timeout=LONGEST_S) != 0
    done = load(run_dir)["PromptDataModule"]["iteration"]
    assert 2 <= done < 500
    target = max(6, done + 1)
    resumed = world.fit(run_dir, f"trainer.iterations={target}", "ckpt_path=auto")
    expected = whole if target == 6 else world.fit(tmp_path / "whole", f"trainer.iterations={target}")
    assert_same_training_state(resumed, expected)


def test_checkpoint_of_another_config_is_refused(world: TinyWorld, tmp_path: Path) -> None:
    world.fit(tmp_path / "run", "trainer.iterations=2")
    with pytest.raises(UserError, match="other settings"):
        world.fit(tmp_path / "run", "trainer.iterations=4", "ckpt_path=last", "objective.clip_range=0.5")


def test_a_checkpoint_of_version_0_1_is_resumed_to_the_same_bits(world: TinyWorld, whole: dict, tmp_path: Path) -> None:
    """It holds a hash in place of its settings; the run keeps that mark."""
    run_dir = tmp_path / "run"
    content = world.fit(run_dir, "trainer.iterations=2")
    mark = identity_in_0_1(read_mapping(run_dir / "config.yaml"))
    del content["run_settings"]
    torch.save(content | {"run_identity": mark}, run_dir / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"objective\.clip_range is 0\.005 there and 0\.5 now"):
        world.fit(run_dir, "trainer.iterations=6", "ckpt_path=last", "objective.clip_range=0.5")
    resumed = world.fit(run_dir, "trainer.iterations=6", "ckpt_path=last")
    assert_same_training_state(resumed, whole)
    assert resumed["run_identity"] == mark
    assert resumed["run_settings"] == whole["run_settings"]


def test_finished_run_says_how_to_extend_it(world: TinyWorld, tmp_path: Path) -> None:
    world.fit(tmp_path / "run", "trainer.iterations=2")
    with pytest.raises(UserError, match="trainer.iterations=4"):
        world.fit(tmp_path / "run", "trainer.iterations=2", "ckpt_path=last")


def test_used_folder_is_refused(world: TinyWorld, tmp_path: Path) -> None:
    world.fit(tmp_path / "run", "trainer.iterations=2")
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(UserError, match="already holds a run"):
        world.fit(tmp_path / "run", "trainer.iterations=2")
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not path.exists():
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.05)
