"""Whole runs in which all weights train: resume, what is saved, what stock diffusers makes of the export."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from runs import TinyWorld, assert_same_training_state, gradient_difference, load

from drift_pl.builders.policy import build_policy
from drift_pl.config.loading import build_config
from drift_pl.core.errors import UserError
from drift_pl.export import main as export
from drift_pl.generate import main as generate
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.sampling.rollout import Sampler, sample_ode
from drift_pl.training.module import DriftModule

FULL = ["policy.tuning=full", "objective.kl_weight=0.1", "objective.learning_rate=0.001"]


@pytest.fixture(scope="module")
def run(world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four iterations in one go."""
    run_dir = tmp_path_factory.mktemp("full") / "run"
    world.fit(run_dir, *FULL, "trainer.iterations=4")
    return run_dir


def test_a_resumed_run_is_the_whole_one_to_the_bit(world: TinyWorld, run: Path, tmp_path: Path) -> None:
    """With a KL term: a reference that were the weights at the resume would show."""
    world.fit(tmp_path / "run", *FULL, "trainer.iterations=2")
    resumed = world.fit(tmp_path / "run", *FULL, "trainer.iterations=4", "ckpt_path=last")
    assert_same_training_state(resumed, load(run))
    start = dict(build_policy(build_config([("experiment", str(run / "config.yaml"))])).trainable_parameters())
    assert resumed["state_dict"].keys() == {f"network.{name}" for name in start} | {"base_group_std"}
    moved = [name for name in start if not torch.equal(start[name], resumed["state_dict"][f"network.{name}"])]
    assert len(moved) == len(start)  # weight decay moves what has no gradient


def test_without_a_copy_a_broken_run_goes_on_from_its_last_checkpoint(
    world: TinyWorld, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half-done iteration is not saved over it. (With the copy: `test_resume.py`.)

    Catches in training/checkpointing.py: without a copy, half an iteration is saved as last.ckpt.
    """
    original = DriftModule.update_policy

    def breaking(self: DriftModule, iteration: int, *args: object) -> None:
        original(self, iteration, *args)
        if iteration == 3:
            raise RuntimeError("out of memory")

    settings = [*FULL, "trainer.iterations=4", "trainer.keep_boundary=false"]
    with monkeypatch.context() as patch:
        patch.setattr(DriftModule, "update_policy", breaking)
        with pytest.raises(RuntimeError, match="out of memory"):
            world.fit(tmp_path / "run", *settings)
    assert load(tmp_path / "run")["PromptDataModule"]["iteration"] == 2
    assert_same_training_state(world.fit(tmp_path / "run", *settings, "ckpt_path=auto"), load(run))


def test_stock_diffusers_draws_from_the_exported_folder_what_the_run_draws(run: Path, tmp_path: Path) -> None:
    assert export([f"ckpt_path={run}", f"out={tmp_path / 'out'}", "format=full"]) == 0
    policy = build_policy(build_config([("experiment", str(run / "config.yaml"))]))
    average = load(run)["average"]
    with torch.no_grad():
        for name, parameter in policy.trainable_parameters():
            parameter.copy_(average[name])
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    prompts = ["a red bar", "any dot"]
    sampler = Sampler(policy.sigmas(3), 2.0, policy.encode(["bad"], negative=True))
    ours = policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(prompts))))
    pipeline = StableDiffusion3Pipeline.from_pretrained(tmp_path / "out", text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=prompts,
        negative_prompt=["bad"] * 2,
        num_inference_steps=3,
        guidance_scale=2.0,
        max_sequence_length=0,
        latents=noise,
        output_type="pt",
    ).images
    assert float((ours - theirs).abs().max()) < 1e-5  # float32 sums in another order
    with policy.reference():
        base = policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(prompts))))
    assert float((ours - base).abs().max()) > 1e-3
    assert "all weights of the denoiser" in (tmp_path / "out" / "README.md").read_text()


def test_there_is_no_adapter_to_export(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export([f"ckpt_path={run}", f"out={tmp_path / 'out'}", "format=lora"]) == 2
    assert "format=lora: the run trained no adapter but the whole network: use format=full" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_generate_draws_base_beside_tuned(run: Path, tmp_path: Path, world: TinyWorld) -> None:
    """The base column is the base model's own, and a scale of zero gives it as well."""
    argv = [f"ckpt_path={run}", "prompt=a red dot", "n=2", "steps=2"]
    for name, scale in (("whole", 1.0), ("nothing", 0.0)):
        assert generate([*argv, f"out={tmp_path / name}", f"lora_scale={scale}"]) == 0

    def files(folder: str, which: str) -> list[bytes]:
        return [path.read_bytes() for path in sorted((tmp_path / folder).glob(f"{which}-*.png"))]

    assert len(files("whole", "base")) == 2
    assert files("whole", "base") == files("nothing", "base") == files("nothing", "tuned")
    assert all(tuned != base for tuned, base in zip(files("whole", "tuned"), files("whole", "base"), strict=True))


def test_an_adapter_to_start_from_is_refused(world: TinyWorld, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^policy\.lora\.pretrained=\./x starts an adapter, and policy\.tuning=full"):
        world.fit(tmp_path / "run", *FULL, "policy.lora.pretrained=./x")


@pytest.mark.slow
def test_two_processes_equal_one(world: TinyWorld, tmp_path: Path) -> None:
    """DDP over gloo, a smooth judge; sums differ in their last bits."""
    settings = [*FULL, "objective.learning_rate=0.0003", "trainer.iterations=2", "objective.advantage_std=global"]
    settings += ["rewards=[{name: 'judges:Brightness'}]", "incentive.shaping.encoder={name: 'judges:CoarsePixels'}"]
    run_dir = tmp_path / "two"
    command = [sys.executable, "-m", "drift_pl.fit", *world.overrides(), "objective.ema_decay=0.5", *settings]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [*command, "trainer.devices=2", f"run_dir={run_dir}"], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one = world.fit(tmp_path / "one", *settings)
    assert gradient_difference(one, load(run_dir)) < 1e-3
