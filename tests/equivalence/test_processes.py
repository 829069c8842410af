"""Two processes train what one does: groups stay whole, noise does not depend on the rank."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import TinyWorld, gradient_difference, largest_difference, load


@pytest.mark.parametrize("loss", ["surrogate", pytest.param("nft", marks=pytest.mark.slow)])
def test_two_processes_equal_one(world: TinyWorld, tmp_path: Path, loss: str) -> None:
    """DDP over gloo; global statistics, so that every exchange between processes matters.

    Sums differ in their last bits: 2e-5 of the gradients. Without one of the exchanges it is half of them, or more.
    Reward and encoder are smooth: one that rounds to 8 bits makes a pixel's last bit a step of 1/255.

    Catches in training/datamodule.py: a process takes a contiguous run of groups, so that an optimiser step's share
    depends on how many processes there are (found a real bug).
    Catches in training/parallel.py: "global" statistics of one process only.
    Catches in training/updates/passes.py: the loss is not scaled by the number of processes.
    Catches: processes average unequal numbers of images.
    """
    settings = ["objective.advantage_std=global", "objective.learning_rate=0.0003", "trainer.iterations=3"]
    settings += ["objective.kl_weight=0.1", "trainer.save_every=3", "evaluation.every=3"]
    settings += ["rewards=[{name: 'judges:Brightness'}]", "incentive.shaping.encoder={name: 'judges:CoarsePixels'}"]
    settings += [f"objective.loss={loss}", "policy.guidance_scale=1"]
    run_dir = tmp_path / "two"
    command = [sys.executable, "-m", "drift_pl.fit", *world.overrides(), "objective.ema_decay=0.5", *settings]
    command += ["trainer.devices=2", f"run_dir={run_dir}"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    two = load(run_dir)
    one = world.fit(tmp_path / "one", *settings)
    start = world.fit(tmp_path / "start", *settings, "trainer.iterations=1", "trainer.save_every=1")
    assert gradient_difference(one, two) < 1e-3
    assert largest_difference(one, two) < 1e-4
    assert largest_difference(one, start) > 1e-3, "the weights must have moved for the comparison to mean anything"
    assert one["PromptDataModule"] == two["PromptDataModule"] == {"iteration": 3}
    assert (run_dir / "summary.json").exists()
