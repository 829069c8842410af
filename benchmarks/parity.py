"""Every model family against its reference library, on small random-weight folders in its format.

    python benchmarks/parity.py        # prints the table and writes docs/results/parity.json

Largest deviations, float32 on the CPU: images from the same noise against the pipeline's own (pixels in [0, 1]); the
ratio of new to old likelihood before the first update, from the replay of a rollout; log-densities against
torch.distributions; and DDIM's step against diffusers' scheduler.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.utils import logging as diffusers_logging
from torch import Tensor

from drift_pl.builders.quiet import quieten
from drift_pl.core.rng import sample_generators
from drift_pl.functional.ddim import ddim_step
from drift_pl.functional.transition import gaussian_log_prob
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.sampling.rollout import Sampler, replay, rollout, sample_ode
from drift_pl.sampling.stochastic import Ddim, FlowSde

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import tiny_models  # noqa: E402
import tiny_policies  # noqa: E402
from stock_pipelines import stock_images, stock_pipeline  # noqa: E402

PROMPTS, NEGATIVE, STEPS = ["a red cat", "two big dog", "sky"], "bad art", 5
FOLDERS = {
    "sd3": tiny_models.save_tiny_pipeline,
    "flux": tiny_models.save_tiny_flux,
    "zimage": tiny_models.save_tiny_zimage,
    "qwen_image": tiny_models.save_tiny_qwen_image,
    "flux2_klein": tiny_models.save_tiny_flux2_klein,
    "sana": tiny_models.save_tiny_sana,
    "wan": tiny_models.save_tiny_wan,
    "sd15": tiny_models.save_tiny_sd15,
    "sdxl": tiny_models.save_tiny_sdxl,
}


def sampler_of(policy: PipelinePolicy, guidance_scale: float) -> Sampler:
    step = {"flow": FlowSde, "ddpm": Ddim}[policy.process.name](0.7)
    return Sampler(policy.sigmas(STEPS), guidance_scale, policy.encode([NEGATIVE], negative=True), step)


def image_deviation(policy: PipelinePolicy, noise_BCHW: Tensor, guidance_scale: float, folder: Path) -> float:
    """Largest pixel difference from the pipeline's own images."""
    sampler = sampler_of(policy, guidance_scale)
    ours = policy.decode(sample_ode(policy, sampler, noise_BCHW, VariedCondition(policy.encode(PROMPTS))))
    pipeline = stock_pipeline(policy, folder)
    theirs = stock_images(pipeline, policy, noise_BCHW, PROMPTS, NEGATIVE, guidance_scale, STEPS)
    return float((ours - theirs).abs().max())


def ratio_deviation(policy: PipelinePolicy, noise_BCHW: Tensor) -> float:
    """Largest |ratio - 1| before any update, with a non-zero adapter."""
    generator = torch.Generator().manual_seed(1)
    for _, parameter in policy.trainable_parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    sampler, condition = sampler_of(policy, 3.0), VariedCondition(policy.encode(PROMPTS))
    streams = sample_generators("parity", samples=range(len(noise_BCHW)))
    trajectory = rollout(policy, sampler, condition, (0, 1, 2), noise_BCHW, streams)
    rows = torch.arange(len(noise_BCHW))
    steps = [replay(policy, sampler, trajectory, k, rows, condition, with_reference=False) for k in range(3)]
    new_KB = torch.stack([step.log_prob_B for step in steps]).detach()
    return float(((new_KB - trajectory.log_prob_KB).exp() - 1).abs().max())


def log_density_deviation() -> float:
    generator = torch.Generator().manual_seed(2)
    x, mean = torch.randn(2, 64, 4, 8, 8, generator=generator)
    deviations = []
    for std in (0.05, 0.3, 1.0):
        theirs = torch.distributions.Normal(mean, std).log_prob(mean + std * x).flatten(1).mean(1)
        deviations.append((gaussian_log_prob(mean + std * x, mean, torch.tensor(std)) - theirs).abs().max())
    return float(max(deviations))


def ddim_deviation(policy: PipelinePolicy, eta: float) -> float:
    """Largest difference of sampled steps, mean + std * noise, from DDIMScheduler.step, over 50 steps."""
    generator = torch.Generator().manual_seed(3)
    scheduler = DDIMScheduler.from_config(policy.pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(50)
    sigmas, worst = policy.sigmas(50), 0.0
    for number, timestep in enumerate(scheduler.timesteps):
        x, noise, drawn = torch.randn(3, 2, 4, 8, 8, generator=generator)
        theirs = scheduler.step(noise, timestep, x, eta=eta, variance_noise=drawn).prev_sample
        mean, std = ddim_step(x, noise, sigmas[number], sigmas[number + 1], eta)
        worst = max(worst, float((mean + std * drawn - theirs).abs().max()))
    return worst


def measure() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"family": "all", "measure": "log-density, torch.distributions.Normal", "deviation": log_density_deviation()}
    ]
    for family, save in FOLDERS.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = save(Path(temporary) / family)
            policy = tiny_policies.load_tiny(family, folder, resolution=16)
            noise_BCHW = torch.randn(3, *policy.latent_shape, generator=torch.Generator().manual_seed(0))
            for scale in (1.0, 4.5):
                deviation = image_deviation(policy, noise_BCHW, scale, folder)
                name = f"images, {policy.pipeline_class.__name__}, guidance {scale:g}"
                rows.append({"family": family, "measure": name, "deviation": deviation})
            if policy.process.name == "ddpm":
                for eta in (0.0, 1.0):
                    name = f"step, DDIMScheduler, eta {eta:g}"
                    rows.append({"family": family, "measure": name, "deviation": ddim_deviation(policy, eta)})
            deviation = ratio_deviation(policy, noise_BCHW)
            rows.append({"family": family, "measure": "ratio before the first update", "deviation": deviation})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| family | measure, against | largest deviation |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row['family']} | {row['measure']} | {row['deviation']:.1e} |" for row in rows)])


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="unknown to the model's tokenizer")
    quieten()
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    measured = measure()
    (ROOT / "docs" / "results" / "parity.json").write_text(json.dumps(measured, indent=2) + "\n")
    print(table(measured))
