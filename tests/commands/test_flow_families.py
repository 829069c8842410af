"""Whole runs of FLUX.1 and Z-Image: fit, export, generate; stock pipelines draw what the runs draw."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FluxPipeline, ZImagePipeline
from PIL import Image
from runs import TinyWorld
from safetensors.torch import load_file
from torch import Tensor

from drift_pl.builders.policy import build_policy
from drift_pl.config.loading import parse
from drift_pl.core.rng import make_generator
from drift_pl.export import main as export
from drift_pl.generate import main as generate
from drift_pl.policies.flux import pack

PROMPT = "a red bar"
STEPS, SEED = 3, 5
CLASSES: dict[str, type[DiffusionPipeline]] = {"flux": FluxPipeline, "zimage": ZImagePipeline}

pytestmark = pytest.mark.filterwarnings("ignore:unknown to the model's tokenizer")


@pytest.fixture(scope="module", params=["flux", "zimage"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def run(
    family: str, evaluated_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """Two iterations with evaluations at another resolution; then the adapter is moved far from the base."""
    run_dir = tmp_path_factory.mktemp("runs") / family
    evaluated_world.fit(
        run_dir,
        *(f"policy.family={family}", f"policy.pretrained={request.getfixturevalue(f'tiny_{family}')}"),
        *("policy.resolution=16", "policy.max_sequence_length=48", "policy.guidance_scale=3"),
        *("policy.lora.targets=[to_q,to_k,to_v,to_out.0]", "evaluation.resolution=24", "policy.dtype=float32"),
        *("trainer.iterations=2", "evaluation.every=1", "incentive.prompting.rule=embedding_noise"),
        *("incentive.prompting.scale=0.3", "policy.text_encoder_device=cpu"),
    )
    for path in (run_dir / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        generator = torch.Generator().manual_seed(1)
        for name, value in content["average"].items():
            if "lora_B" in name:
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
        torch.save(content, path)
    return run_dir


@pytest.fixture(scope="module")
def lora(run: Path) -> Path:
    out = run.parent / "lora"
    assert export([f"ckpt_path={run}", f"out={out}"]) == 0
    return out


def drawn_by_diffusers(family: str, folder: Path, lora: Path | None) -> Tensor:
    """Two images of 24 x 24 pixels from the noise of `generate`, with guidance 3 in our sense."""
    pipeline = CLASSES[family].from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if lora is not None:
        pipeline.load_lora_weights(lora)
    noise = torch.stack(
        [torch.randn(4, 12, 12, generator=make_generator("generated_latents", SEED, k)) for k in (0, 1)]
    )
    arguments: dict[str, Any] = {"flux": {"guidance_scale": 3.0}, "zimage": {"guidance_scale": 2.0}}[family]
    return pipeline(
        prompt=[PROMPT] * 2,
        height=24,
        width=24,
        num_inference_steps=STEPS,
        max_sequence_length=48,
        latents=pack(noise) if family == "flux" else noise,
        output_type="pt",
        **arguments,
    ).images


def test_a_run_trains_evaluates_and_says_so(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["iterations"] == 2
    assert {"reward", "pairwise_distance", "pairwise_lpips", "vendi"} <= summary["base"].keys()
    assert summary["base"]["reward"] != summary["tuned"]["reward"]
    assert (run / "samples" / "base_and_tuned.png").exists()


def test_stock_diffusers_draws_what_generate_draws(
    family: str, run: Path, lora: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """PNG files are rounded to 255 grey levels: half of one, and float32 sums in another order.

    Catches in evaluation/sampling.py: noise levels of training's resolution.
    """
    folder, out = request.getfixturevalue(f"tiny_{family}"), tmp_path / "pictures"
    argv = [f"ckpt_path={run}", f"prompt={PROMPT}", "n=2", f"seed={SEED}", f"steps={STEPS}", f"out={out}"]
    assert generate(argv) == 0
    drawn = {}
    for which, weights in (("base", None), ("tuned", lora)):
        theirs = drawn[which] = drawn_by_diffusers(family, folder, weights)
        files = sorted(out.glob(f"{which}-*.png"))
        ours = np.stack([np.asarray(Image.open(file)) for file in files])
        expected = theirs.permute(0, 2, 3, 1).numpy() * 255
        assert np.abs(ours - expected).max() < 0.51
    assert (drawn["base"] - drawn["tuned"]).abs().max() > 1e-2


def test_guidance_in_evaluation_is_its_own(run: Path, tmp_path: Path) -> None:
    """`sampler.eval_guidance_scale`, which `generate` sets, reaches the network."""
    pixels = []
    for scale in (1, 6):
        out = tmp_path / str(scale)
        assert generate([f"ckpt_path={run}", f"prompt={PROMPT}", "n=1", f"guidance_scale={scale}", f"out={out}"]) == 0
        pixels.append(np.asarray(Image.open(out / "tuned-00.png")).astype(int))
    assert np.abs(pixels[0] - pixels[1]).max() > 1


def test_the_card_gives_the_pipelines_own_guidance(family: str, lora: Path) -> None:
    """Catches in policies/zimage.py: a card with our guidance scale for the pipeline's."""
    card = (lora / "README.md").read_text()
    assert re.findall(r"guidance_scale=([\d.]+)", card) == [{"flux": "3.0", "zimage": "2.0"}[family]]
    assert CLASSES[family].__name__ in card


def test_the_exported_adapter_starts_another_run(
    family: str, lora: Path, evaluated_world: TinyWorld, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    copied = shutil.copytree(lora, tmp_path / "lora")
    argv = [
        *evaluated_world.paths(),
        *(f"policy.family={family}", f"policy.pretrained={request.getfixturevalue(f'tiny_{family}')}"),
        *("policy.resolution=16", "policy.lora.rank=8", "policy.lora.alpha=16", f"policy.lora.pretrained={copied}"),
        "policy.lora.targets=[to_q,to_k,to_v,to_out.0]",
    ]
    policy = build_policy(parse(argv).config)
    stored = load_file(copied / "pytorch_lora_weights.safetensors")
    assert len(stored) == len(dict(policy.trainable_parameters()))
    for name, parameter in policy.trainable_parameters():
        assert torch.equal(parameter, stored[f"transformer.{name.replace('.default.', '.')}"])
