"""Whole runs of the families of `policies/test_stock_images.py`: fit, export, stock diffusers."""

import json
from pathlib import Path

import pytest
import torch
from runs import TinyWorld, load
from stock_pipelines import stock_images, stock_pipeline
from tiny_policies import load_tiny

from drift_pl.export import main as export
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.sampling.rollout import Sampler, sample_ode

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
CALLS = {
    "qwen_image": "true_cfg_scale=3.0, negative_prompt='', max_sequence_length=40",
    "flux2_klein": "guidance_scale=3.0, max_sequence_length=40",
    "sana": "guidance_scale=3.0, max_sequence_length=40",
    "wan": "guidance_scale=3.0, max_sequence_length=40",
}

pytestmark = pytest.mark.filterwarnings("ignore:unknown to the model's tokenizer")


@pytest.mark.parametrize("family", CALLS)
def test_stock_diffusers_draws_what_an_exported_adapter_draws(
    family: str, tmp_path: Path, request: pytest.FixtureRequest, generator: torch.Generator
) -> None:
    """An iteration with evaluations at another resolution; then the adapter is moved far from the base.

    Catches in reports/model_card.py: a call whose guidance has no effect.
    """
    folder, world = request.getfixturevalue(f"tiny_{family}"), TinyWorld.create(tmp_path / "world")
    world.fit(
        tmp_path / "run",
        *(f"policy.family={family}", f"policy.pretrained={folder}", "policy.guidance_scale=3"),
        *("policy.resolution=16", "policy.max_sequence_length=40", f"policy.lora.targets=[{','.join(TARGETS)}]"),
        *("evaluation.resolution=24", "evaluation.max_prompts=1", "trainer.iterations=1", "evaluation.every=0"),
        *("incentive.prompting.rule=embedding_noise", "incentive.prompting.scale=0.3"),
        *(("policy.frames=5", "policy.reward_frames=random") if family == "wan" else ()),
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["iterations"] == 1
    assert ("time_pairwise_distance" in summary["tuned"]) == (family == "wan")
    content = load(tmp_path / "run")
    for name, value in content["average"].items():
        if "lora_B" in name:
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
    torch.save(content, tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert export([f"ckpt_path={tmp_path / 'run'}", f"out={tmp_path / 'lora'}"]) == 0

    policy = load_tiny(
        family, folder, resolution=16, rank=8, alpha=16, targets=TARGETS, warm_start=str(tmp_path / "lora")
    )
    noise = torch.randn(2, *policy.latent_shape, generator=generator)
    sampler = Sampler(policy.sigmas(3), 3.0, policy.encode(["bad art"], negative=True))
    ours = policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(["a dot", "sky"]))))
    pipeline = stock_pipeline(policy, folder)
    base = stock_images(pipeline, policy, noise, ["a dot", "sky"], "bad art", 3.0, steps=3)
    pipeline.load_lora_weights(tmp_path / "lora")
    theirs = stock_images(pipeline, policy, noise, ["a dot", "sky"], "bad art", 3.0, steps=3)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert (theirs - base).abs().max() > 1e-2
    assert f", {CALLS[family]})" in (tmp_path / "lora" / "README.md").read_text()
