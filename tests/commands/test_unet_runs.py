"""Whole runs of Stable Diffusion 1.5 and SDXL: fit, evaluation, resume, and what comes out of the door."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from runs import TinyWorld, assert_same_training_state, load
from torch import Tensor

from drift_pl.builders.policy import build_policy
from drift_pl.config.loading import build_config, parse
from drift_pl.core.rng import normal_per_sample, sample_generators
from drift_pl.export import main as export
from drift_pl.fit import fit
from drift_pl.generate import main as generate
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.sampling.rollout import Sampler, sample_ode

PIPELINES = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
FAMILIES = tuple(PIPELINES)
PROMPTS = ["a red bar", "any dot"]
STEPS, GUIDANCE = 3, 2.0


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def base(family: str, tiny_unets: dict[str, Path]) -> Path:
    return tiny_unets[family]


@pytest.fixture(scope="module")
def start(family: str, base: Path, evaluated_world: TinyWorld) -> Callable[..., Path]:
    """Fits with shapes_drift's levers, DDPO's steps and a stepwise bonus, which looks at the expected images."""

    def call(run_dir: Path, *overrides: str) -> Path:
        model = [f"policy.pretrained={base}", f"policy.family={family}", "policy.guidance_scale=2.0"]
        model += ["policy.lora.targets=[to_q,to_k,to_v,to_out.0]", "sampler.kind=ddim", "sampler.noise_level=1.0"]
        rest = ["objective.learning_rate=0.01", "objective.ema_decay=0.5", "incentive.shaping.form=per_step"]
        evaluation = ["evaluation.every=1", "sampler.eval_importance_power=1.5", "trainer.save_every=1"]
        argv = [*evaluated_world.overrides(), *model, *rest, *evaluation, *overrides, f"run_dir={run_dir}"]
        return fit(parse(argv).config)

    return call


@pytest.fixture(scope="module")
def run(start: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two iterations in one go; the trained weights are then moved far from the base's."""
    return start(tmp_path_factory.mktemp("runs") / "run", "trainer.iterations=2", "trainer.logger=[csv]")


@pytest.fixture(scope="module")
def moved(run: Path) -> Path:
    """The same run with weights as long training would leave them."""
    folder = run.parent / "moved"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    content, generator = load(run), torch.Generator().manual_seed(1)
    for name, value in content["average"].items():
        if "lora_B" in name:
            value += 0.3 * torch.randn(value.shape, generator=generator)
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    return folder


def noise() -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def drawn_by_the_run(folder: Path) -> Tensor:
    config = build_config([("experiment", str(folder / "config.yaml"))])
    policy, average = build_policy(config), load(folder)["average"]
    with torch.no_grad():
        for name, parameter in policy.trainable_parameters():
            parameter.copy_(average[name])
    sampler = Sampler(policy.sigmas(STEPS), GUIDANCE, policy.encode(["bad"], negative=True))
    return policy.decode(sample_ode(policy, sampler, noise(), VariedCondition(policy.encode(PROMPTS))))


def drawn_by_diffusers(pipeline: Any) -> Tensor:
    pipeline.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "pt"}
    return pipeline(PROMPTS, negative_prompt=["bad"] * 2, latents=noise(), **settings).images


def drawn_by_the_base(family: str, base: Path, prompt: str, *noise_of: Any) -> np.ndarray:
    """The stock pipeline with DDIM as the runs evaluate: pixels [2, H, W, 3] in [0, 1]."""
    start = normal_per_sample(sample_generators(*noise_of, samples=range(2)), (4, 8, 8), torch.device("cpu"))
    stock = PIPELINES[family].from_pretrained(base)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, clip_sample=False)
    stock.set_progress_bar_config(disable=True)
    settings = {"num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "np"}
    return stock([prompt] * 2, latents=start, **settings).images


def test_a_run_trains_and_evaluates(run: Path, family: str, base: Path) -> None:
    """The first ratio is exactly 1 in both iterations, and the images have changed.

    Oracle of the evaluation: the stock pipeline on its noise; pixels of 8 bits may round differently by one.

    Catches in sampling/solver.py: a DDPM evaluated by the flow's ODE.
    """
    grid = np.load(run / "evaluation" / "test" / "points" / "base.npz")["grid"][0].transpose(0, 2, 3, 1)
    expected = drawn_by_the_base(family, base, "a red bar", "evaluation_latents:a red bar")
    assert np.abs(np.rint(expected * 255) - grid).max() <= 1
    summary = json.loads((run / "summary.json").read_text())
    assert summary["iterations"] == 2
    assert summary["base"].keys() == summary["tuned"].keys()
    assert summary["base"]["reward"] != summary["tuned"]["reward"]
    header, *rows = (run / "csv" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("policy/ratio_deviation_first")
    assert [float(row.split(",")[column]) for row in rows if row.split(",")[column]] == [0.0, 0.0]


@pytest.mark.slow
def test_a_run_resumes_to_the_same_bits(run: Path, start: Callable[..., Path], tmp_path: Path) -> None:
    """Two iterations at once are one and one more."""
    start(tmp_path / "run", "trainer.iterations=1")
    start(tmp_path / "run", "trainer.iterations=2", "ckpt_path=last")
    assert_same_training_state(load(run), load(tmp_path / "run"))


def test_diffusers_draws_from_the_exports_what_the_run_draws(
    family: str, base: Path, moved: Path, tmp_path: Path
) -> None:
    """The LoRA in a stock pipeline with DDIM, and the whole pipeline, which ships DDIM. Float32 sums differ: 1e-5.

    Merged weights are rounded once more: 1e-4.

    Catches in policies/unet.py: a full export's scheduler clips the latents to [-1, 1].
    """
    ours, kind = drawn_by_the_run(moved), PIPELINES[family]
    for form in ("lora", "full"):
        assert export([f"ckpt_path={moved}", f"out={tmp_path / form}", f"format={form}"]) == 0
    stock = kind.from_pretrained(base)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, clip_sample=False)
    plain = drawn_by_diffusers(stock)
    stock.load_lora_weights(tmp_path / "lora")
    torch.testing.assert_close(drawn_by_diffusers(stock), ours, rtol=0, atol=1e-5)
    torch.testing.assert_close(drawn_by_diffusers(kind.from_pretrained(tmp_path / "full")), ours, rtol=0, atol=1e-4)
    assert (ours - plain).abs().max() > 1e-2


def test_the_cards_code_draws_what_the_run_draws(moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pipeline, its scheduler and its arguments: run as they stand there, on the noise of the test.

    Catches in reports/model_card.py: the card's example leaves the folder's own scheduler.
    """
    assert export([f"ckpt_path={moved}", f"out={tmp_path / 'mine'}"]) == 0
    card = (tmp_path / "mine" / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0]
    *setting_up, call, _ = code.strip().splitlines()
    assert "num_inference_steps=2, guidance_scale=2.0" in call
    assert "max_sequence_length" not in call
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec("\n".join(setting_up), names)
    torch.testing.assert_close(drawn_by_diffusers(names["pipeline"]), drawn_by_the_run(moved), rtol=0, atol=1e-5)


def test_generate_draws_base_and_tuned_by_ddim(moved: Path, base: Path, family: str, tmp_path: Path) -> None:
    """Oracle: the stock pipeline on the base's noise; pixels of 8 bits may round differently by one.

    Catches in sampling/solver.py: a DDPM's pictures drawn by the flow's ODE.
    """
    argv = [f"ckpt_path={moved}", "prompt=a red dot", "n=2", f"out={tmp_path / 'out'}", "aig=null"]
    assert generate(argv) == 0
    pixels = {
        which: np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "out").glob(f"{which}-*.png"))])
        for which in ("base", "tuned")
    }
    images = drawn_by_the_base(family, base, "a red dot", "generated_latents", 0)
    assert np.abs(np.rint(images * 255) - pixels["base"]).max() <= 1
    assert np.abs(pixels["base"].astype(int) - pixels["tuned"].astype(int)).max() > 5
