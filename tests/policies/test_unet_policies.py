"""Stable Diffusion 1.5 and SDXL behind the protocol, against diffusers' own pipelines on the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from tiny_policies import load_tiny
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.rng import sample_generators
from drift_pl.core.types import Condition
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.unet import StableDiffusionPolicy
from drift_pl.sampling.rollout import Sampler, replay, rollout, sample_ode
from drift_pl.sampling.stochastic import Ddim

PROMPTS = ["a red cat", "two big dog", "sky"]
NEGATIVE = "bad art"
STEPS = 5
PIPELINES = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
both_families = pytest.mark.parametrize("family", ["sd15", "sdxl"])


@pytest.fixture
def make(tiny_unets: dict[str, Path]) -> Callable[..., StableDiffusionPolicy]:
    def policy(family: str, folder: Path | None = None, **options: Any) -> StableDiffusionPolicy:
        return load_tiny(family, folder or tiny_unets[family], **options)

    return policy


def plain_pipeline(family: str, folder: Path) -> Any:
    """diffusers' own, on its own copy of the weights, sampled by DDIM as diffusers' documentation says."""
    pipeline = PIPELINES[family].from_pretrained(folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline: Any, noise: Tensor, guidance_scale: float, negative: str | None = NEGATIVE) -> Tensor:
    return pipeline(
        PROMPTS,
        negative_prompt=None if negative is None else [negative] * 3,
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        latents=noise.clone(),
        output_type="pt",
    ).images.float()


def make_sampler(policy: StableDiffusionPolicy, guidance_scale: float = 5.0, eta: float = 1.0, **more: Any) -> Sampler:
    return Sampler(policy.sigmas(STEPS), guidance_scale, policy.encode([NEGATIVE], True), Ddim(eta), **more)


def sample(policy: StableDiffusionPolicy, sampler: Sampler, noise: Tensor) -> Tensor:
    return policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(PROMPTS))))


def noises(generator: torch.Generator, side: int = 8) -> Tensor:
    return torch.randn(3, 4, side, side, generator=generator)


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@both_families
def test_deterministic_samples_are_the_pipelines_own(
    family: str,
    tiny_unets: dict[str, Path],
    make: Callable[..., Any],
    guidance_scale: float,
    generator: torch.Generator,
) -> None:
    """Oracle: the pipeline's __call__ from the same noise. Float32 sums in another order: 1e-5 of pixels in [0, 1].

    Catches in policies/process.py: DDIM's deterministic steps with eta.
    Catches in policies/unet.py: the last step ends at 0 whatever the scheduler says; SDXL told another original size.
    """
    noise, policy = noises(generator), make(family)
    theirs = drawn(plain_pipeline(family, tiny_unets[family]), noise, guidance_scale)
    torch.testing.assert_close(sample(policy, make_sampler(policy, guidance_scale), noise), theirs, rtol=0, atol=1e-5)
    assert theirs.std() > 0.05
    assert (theirs[0] - theirs[1]).abs().max() > 1e-2


@both_families
def test_prompts_and_guidance_show(
    family: str, tiny_unets: dict[str, Path], make: Callable[..., Any], generator: torch.Generator
) -> None:
    """Or the test above would compare images that the conditions do not reach."""
    noise, policy = noises(generator), make(family)
    one = sample(policy, make_sampler(policy, 1.0), noise)
    assert (one - sample(policy, make_sampler(policy, 5.0), noise)).abs().max() > 1e-3
    permuted = VariedCondition(policy.encode(PROMPTS[::-1]))
    other = policy.decode(sample_ode(policy, make_sampler(policy, 1.0), noise, permuted))
    assert (one[0] - other[0]).abs().max() > 1e-3


@both_families
def test_an_empty_negative_prompt_is_none_to_the_pipeline(
    family: str, tiny_unets: dict[str, Path], make: Callable[..., Any], generator: torch.Generator
) -> None:
    """SDXL's folders say that it is zeros; Stable Diffusion 1.5 encodes the empty text.

    Catches in policies/unet.py: SDXL's empty negative prompt encoded; an empty prompt that is not negative not encoded.
    """
    noise, policy = noises(generator), make(family)
    theirs = drawn(plain_pipeline(family, tiny_unets[family]), noise, 5.0, negative=None)
    sampler = Sampler(policy.sigmas(STEPS), 5.0, policy.encode([""], negative=True))
    torch.testing.assert_close(sample(policy, sampler, noise), theirs, rtol=0, atol=1e-5)
    assert bool(policy.encode([""], negative=True).tokens_BLE.any()) == (family == "sd15")
    assert policy.encode([""]).tokens_BLE.any()  # a prompt that happens to be empty is encoded


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_folders_that_predict_something_else(
    prediction: str, make: Callable[..., Any], tmp_path: Path, generator: torch.Generator
) -> None:
    """Stable Diffusion 2.1 predicts v; the pipeline's images again, and `predict` gives the noise all the same.

    Here v is turned into noise and that into x_0, in float32: 1e-5.

    Catches in policies/unet.py: v taken for noise.
    """
    folder, noise = saved_tiny_sd15(tmp_path / "other", prediction_type=prediction), noises(generator)
    policy = make("sd15", folder)
    theirs = drawn(plain_pipeline("sd15", folder), noise, 5.0)
    torch.testing.assert_close(sample(policy, make_sampler(policy), noise), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("spacing", "to_one"), [("leading", False), ("trailing", True)])
def test_the_grid_is_the_schedulers(spacing: str, to_one: bool, make: Callable[..., Any], tmp_path: Path) -> None:
    """Oracle: DDIMScheduler's timesteps and last alpha_bar; and the network is told these very timesteps.

    Catches in policies/unet.py: noise levels kept in float32.
    """
    folder = saved_tiny_sd15(tmp_path / "other", timestep_spacing=spacing, set_alpha_to_one=to_one)
    policy, plain = make("sd15", folder), plain_pipeline("sd15", folder).scheduler
    told = []
    policy.network.register_forward_pre_hook(lambda _, args, given: told.append(given["timestep"]), with_kwargs=True)
    sampler = make_sampler(policy, 1.0)
    sample_ode(policy, sampler, torch.zeros(3, 4, 8, 8), VariedCondition(policy.encode(PROMPTS)))
    plain.set_timesteps(STEPS)
    assert [timestep.tolist() for timestep in told] == [[number] * 3 for number in plain.timesteps.tolist()]
    assert not told[0].is_floating_point()
    alpha_bar = torch.cat([plain.alphas_cumprod[plain.timesteps], plain.final_alpha_cumprod[None]])
    torch.testing.assert_close(1 - sampler.sigmas.square(), alpha_bar.double(), rtol=1e-9, atol=1e-12)
    assert (float(sampler.sigmas[-1]) == 0) == to_one


def test_every_timestep_is_found_back_and_no_other_level_is_taken_for_one(make: Callable[..., Any]) -> None:
    """Catches in policies/unet.py: the nearest timestep taken, however far."""
    policy = make("sd15")
    for num_steps in (50, 999):
        expected = policy.pipeline.scheduler
        expected.set_timesteps(num_steps)
        assert [policy.timestep(sigma) for sigma in policy.sigmas(num_steps)[:-1]] == expected.timesteps.tolist()
    for wrong in (torch.tensor(0.5), policy.sigmas(5)[2].float()):
        with pytest.raises(ValueError, match="is not a noise level of this model's timesteps"):
            policy.timestep(wrong)
    with pytest.raises(UserError, match=r"1000 steps .* are more than this model's 999 timesteps: use e\.g\. 50"):
        policy.sigmas(1000)


@pytest.mark.parametrize(("family", "eta"), [("sd15", 1.0), ("sdxl", 0.3)])
def test_a_stochastic_step_is_the_schedulers_on_the_pipelines_own_prediction(
    family: str, tiny_unets: dict[str, Path], make: Callable[..., Any], eta: float, generator: torch.Generator
) -> None:
    """Oracle: DDIMScheduler.step with eta and the same noise, from what the pipeline's own UNet says.

    Also the clean latents that the policy expects, and log-densities: torch.distributions, mean over elements.

    Catches in policies/process.py: a DDPM's clean latents by the flow's formula.
    """
    latents, policy = noises(generator), make(family)
    pipeline = plain_pipeline(family, tiny_unets[family])
    unet, plain = pipeline.unet, pipeline.scheduler
    plain.set_timesteps(STEPS)
    sampler, condition = make_sampler(policy, 1.0, eta), policy.encode(PROMPTS)
    generators = sample_generators("step_noise", 3, samples=range(3))
    run = rollout(policy, sampler, VariedCondition(condition), (1, 2), latents, generators, 1, ("means", "predictions"))
    for k, step in enumerate(run.steps_K):
        state, after, timestep = run.latents_KBCHW[k], run.latents_KBCHW[k + 1], plain.timesteps[step]
        added = {"text_embeds": condition.pooled_BE, "time_ids": torch.tensor([[16, 16, 0, 0, 16, 16]] * 3)}
        with torch.no_grad():
            output = unet(state, timestep, condition.tokens_BLE, added_cond_kwargs=added).sample
        std, _ = sampler.spread(step)
        noise = (after - run.mean_KBCHW[k]) / std
        theirs = plain.step(output, int(timestep), state, eta=eta, variance_noise=noise.float())
        torch.testing.assert_close(after, theirs.prev_sample, rtol=1e-5, atol=1e-5)  # the scheduler's float32
        torch.testing.assert_close(run.predicted_KBCHW[k], theirs.pred_original_sample, rtol=1e-5, atol=1e-5)
        density = torch.distributions.Normal(run.mean_KBCHW[k].double(), std).log_prob(after.double())
        torch.testing.assert_close(run.log_prob_KB[k].double(), density.flatten(1).mean(1), rtol=0, atol=1e-5)
        assert 0.7 < float(noise.std()) < 1.3  # 768 normal numbers


@both_families
def test_the_ratio_before_the_first_update_is_exactly_one(
    family: str, make: Callable[..., Any], tune: Callable[..., None], generator: torch.Generator
) -> None:
    """Bit for bit, with gradient checkpointing too, and every step of the grid trained."""
    policy = make(family, gradient_checkpointing=True)
    tune(policy)
    condition = VariedCondition(policy.encode(PROMPTS))
    last = STEPS if family == "sd15" else STEPS - 1  # the tiny SDXL folder ends at alpha_bar = 1
    sampler, generators = make_sampler(policy), sample_generators("step_noise", 3, samples=range(3))
    run = rollout(policy, sampler, condition, range(last), noises(generator), generators)
    for k in range(last):
        step = replay(policy, sampler, run, k, torch.arange(3), condition, with_reference=True)
        assert torch.equal(step.log_prob_B, run.log_prob_KB[k])
        assert step.log_prob_B.dtype == torch.float32
        assert step.log_prob_B.requires_grad
        assert (step.mean_BCHW - step.reference_mean_BCHW).abs().max() > 1e-3
        assert float(step.length) == pytest.approx(float(sampler.sigmas[k] - sampler.sigmas[k + 1]))


def test_guidance_and_the_levers_go_by_the_like_noised_flow(
    make: Callable[..., Any], tune: Callable[..., None], generator: torch.Generator
) -> None:
    """Oracle: u^p with u = alpha / (alpha + sigma), mixed by hand; and a condition that says when it was asked for.

    Catches in policies/process.py: annealed guidance in a DDPM by 1 - sigma.
    """
    policy, latents = make("sd15"), noises(generator)
    tune(policy)
    asked = []

    class Varied(VariedCondition):
        def at(self, sigma: float) -> Condition:
            asked.append(sigma)
            return super().at(sigma)

    condition = Varied(policy.encode(PROMPTS))
    sampler = make_sampler(policy, 1.0, importance_power=2.0)
    with torch.no_grad():
        ours = sampler.prediction(policy, latents, 2, condition)
        tuned = make_sampler(policy, 1.0).prediction(policy, latents, 2, condition)
        with policy.reference():
            base = make_sampler(policy, 1.0).prediction(policy, latents, 2, condition)
    plain = policy.pipeline.scheduler
    plain.set_timesteps(STEPS)
    signal, noise = float(plain.alphas_cumprod[plain.timesteps[2]]) ** 0.5, float(sampler.sigmas[2])
    share = (signal / (signal + noise)) ** 2
    torch.testing.assert_close(ours, share * tuned + (1 - share) * base, rtol=0, atol=1e-5)
    assert (tuned - base).abs().max() > 1e-2
    assert asked == pytest.approx([noise / (signal + noise)] * 3)


@both_families
def test_gradients_reach_the_adapter_and_nothing_else(
    family: str, make: Callable[..., Any], tune: Callable[..., None], generator: torch.Generator
) -> None:
    """And gradient checkpointing changes none of them."""
    latents, gradients = noises(generator), []
    for checkpointing in (False, True):
        policy = make(family, gradient_checkpointing=checkpointing)
        tune(policy)
        passes = []
        policy.network.up_blocks[1].resnets[0].register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        condition, negative = policy.encode(PROMPTS), policy.encode([NEGATIVE])
        policy.predict(latents, policy.sigmas(STEPS)[1], condition, negative, 5.0).square().mean().backward()
        assert len(passes) == 1 + checkpointing  # the residual block runs again in the backward pass
        parts = (policy.pipeline.unet, policy.pipeline.vae, *(getattr(policy.pipeline, p) for p in policy.text_parts))
        touched = {name for part in parts for name, p in part.named_parameters() if p.grad is not None}
        adapter = dict(policy.trainable_parameters())
        assert touched == adapter.keys()
        # four blocks of attention (down, middle, two up), each with self and cross attention, 4 layers, A and B
        assert len(adapter) == 4 * 2 * 4 * 2
        assert all("lora_" in name and parameter.grad.abs().max() > 0 for name, parameter in adapter.items())
        gradients.append([parameter.grad for parameter in adapter.values()])
    assert all(torch.equal(plain, recomputed) for plain, recomputed in zip(*gradients, strict=True))


def saved_tiny_sd15(folder: Path, **schedule: Any) -> Path:
    import tiny_models

    with torch.random.fork_rng(devices=[]):
        return tiny_models.save_tiny_sd15(folder, **schedule)
