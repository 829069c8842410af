"""Qwen-Image, FLUX.2 [klein], Sana and Wan behind the protocol, against diffusers' pipelines on the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from stock_pipelines import stock_images, stock_pipeline
from tiny_models import save_tiny_flux2_klein, save_tiny_wan
from tiny_policies import load_tiny

from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.flow import euler_scheduler
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.sampling.rollout import Sampler, sample_ode

PROMPTS, NEGATIVE = ["a red cat", "two big dog", "sky"], "bad art"

pytestmark = pytest.mark.filterwarnings("ignore:unknown to the model's tokenizer")


@pytest.fixture(scope="module", params=["qwen_image", "flux2_klein", "sana", "wan"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def both(family: str, request: pytest.FixtureRequest) -> tuple[PipelinePolicy, Any]:
    """A policy, and the stock pipeline on its own copy of the weights."""
    folder: Path = request.getfixturevalue(f"tiny_{family}")
    policy = load_tiny(family, folder, resolution=16)
    return policy, stock_pipeline(policy, folder)


@pytest.mark.parametrize(("guidance_scale", "side"), [(1.0, 24), (4.5, 16)])
def test_deterministic_samples_are_the_pipelines_own(
    both: tuple[PipelinePolicy, Any], guidance_scale: float, side: int, generator: torch.Generator
) -> None:
    """Oracle: the pipeline's call from the same noise, at two resolutions and hence with two time shifts.

    Catches in policies/qwen_image.py: guidance without the norm of every token; padding shown to the network.
    Catches in policies/flux2.py: rows and columns swapped; the autoencoder's batch norm left out; mu without the steps.
    Catches in policies/wan.py: frames decoded in another order; the width not in proportion.
    Catches in policies/sana.py: the instruction before a negative prompt as well; timestep as a noise level.
    """
    policy, pipeline = both
    with policy.at_resolution(side):
        noise = torch.randn(3, *policy.latent_shape, generator=generator)
        theirs = stock_images(pipeline, policy, noise, PROMPTS, NEGATIVE, guidance_scale, steps=4, side=side)
        sampler = Sampler(policy.sigmas(4), guidance_scale, policy.encode([NEGATIVE], negative=True))
        ours = policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(PROMPTS))))
        assert torch.equal(policy.sigmas(4), pipeline.scheduler.sigmas)
    # float32 sums in another order, guidance multiplies them: four steps of a small network, pixels in [0, 1]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)
    assert theirs.std() > 0.01  # the images are not flat
    assert (theirs[0] - theirs[1]).abs().max() > 1e-3


def test_what_the_text_encoder_says_of_a_prompt_is_told_apart_from_padding(both: tuple[PipelinePolicy, Any]) -> None:
    """Of a prompt alone as of one among longer ones; FLUX.2's network attends to the padding itself."""
    policy, _ = both
    condition, alone = policy.encode(PROMPTS), policy.encode(PROMPTS[:1])
    torch.testing.assert_close(condition.tokens_BLE[:1], alone.tokens_BLE, rtol=0, atol=1e-5)
    assert condition.tokens_BLE.shape[1] == policy.max_sequence_length
    if policy.family == "flux2_klein":
        assert condition.num_tokens_B is None
        return
    assert condition.num_tokens_B is not None
    for tokens_LE, count in zip(condition.tokens_BLE, condition.num_tokens_B.tolist(), strict=True):
        assert 0 < count < policy.max_sequence_length
        assert tokens_LE[:count].any(-1).all()
        assert not tokens_LE[count:].any()


def test_longer_texts_are_cut_with_a_warning(both: tuple[PipelinePolicy, Any]) -> None:
    policy, _ = both
    with pytest.warns(UserWarning, match="1 of 1 prompts are longer than the model takes and are cut: 1 at 40 tokens"):
        cut = policy.encode(["a very long story of two dogs that nobody has read"])
    assert cut.num_tokens_B is None or cut.num_tokens_B.tolist() == [40]


def test_text_lengths_and_sizes_that_a_model_does_not_take_are_refused(family: str, both: Any, request: Any) -> None:
    folder = request.getfixturevalue(f"tiny_{family}")
    longest = {"qwen_image": 1024, "flux2_klein": 512, "sana": 300, "wan": 512}[family]
    for length in (0, longest + 1):
        policy = load_tiny(family, folder, resolution=16, max_sequence_length=length)
        with pytest.raises(UserError, match=rf"^policy\.max_sequence_length={length}: this model takes 1 to {longest}"):
            policy.encode(PROMPTS)
    side = 17 if family == "sana" else 18
    with pytest.raises(UserError, match=rf"policy\.resolution={side} is not a multiple of"):
        load_tiny(family, folder, resolution=side)


def test_a_distilled_klein_takes_no_guidance(tmp_path: Path, generator: torch.Generator) -> None:
    """Its pipeline ignores the scale."""
    with torch.random.fork_rng(devices=[]):
        folder = save_tiny_flux2_klein(tmp_path / "klein", distilled=True)
    policy = load_tiny("flux2_klein", folder, resolution=16)
    noise, condition = torch.randn(1, *policy.latent_shape, generator=generator), policy.encode(["sky"])
    with pytest.raises(UserError, match=r"^policy\.guidance_scale=4\.5: this model is distilled"):
        policy.predict(noise, torch.tensor(0.5), condition, condition, 4.5)
    theirs = stock_images(stock_pipeline(policy, folder), policy, noise, ["sky"], "", 4.5, steps=2)
    ours = policy.decode(
        sample_ode(policy, Sampler(policy.sigmas(2), 1.0, condition), noise, VariedCondition(condition))
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_a_network_that_is_called_with_a_noise_level_per_token_draws_the_same(
    tmp_path: Path, generator: torch.Generator
) -> None:
    """Wan 2.2 5B, whose pipeline gives every token the same one where no frame is given.

    It embeds them in one product of another size than ours, which rounds in another order: 2.03e-6 in one thread.
    """
    with torch.random.fork_rng(devices=[]):
        folder = save_tiny_wan(tmp_path / "wan", per_token=True)
    policy = load_tiny("wan", folder, resolution=16)
    noise, condition = torch.randn(1, *policy.latent_shape, generator=generator), policy.encode(["sky"])
    pipeline = stock_pipeline(policy, folder)
    assert pipeline.config.expand_timesteps
    theirs = stock_images(pipeline, policy, noise, ["sky"], "", 1.0, steps=2)
    ours = policy.decode(
        sample_ode(policy, Sampler(policy.sigmas(2), 1.0, condition), noise, VariedCondition(condition))
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6)


def test_videos_that_wan_does_not_make_are_refused(tiny_wan: Path, tmp_path: Path) -> None:
    """Catches in policies/wan.py: a network for the low noise levels ignored."""
    with pytest.raises(UserError, match=r"^policy\.frames=4 is not 1 more than a multiple of 2: use e\.g\. 3$"):
        load_tiny("wan", tiny_wan, resolution=16, frames=4)
    policy = load_tiny("wan", tiny_wan, resolution=16, frames=1)
    assert policy.latent_shape == (4, 1, 8, 14)
    assert policy.decode(torch.zeros(2, *policy.latent_shape)).shape == (2, 3, 16, 28)
    policy.pipeline.register_modules(transformer_2=policy.network)
    with pytest.raises(ValueError, match="a network for each half of the noise levels"):
        policy.prepare(policy.pipeline)
    with pytest.raises(
        UserError, match=r"^policy\.frames=5: policy\.family=sd3 makes images; use policy\.frames=1, or"
    ):
        parse(["policy.frames=5"])


def test_a_solver_that_is_not_for_flows_is_refused() -> None:
    from diffusers import DPMSolverMultistepScheduler

    with pytest.raises(ValueError, match="DPMSolverMultistepScheduler that is not for flows"):
        euler_scheduler(DPMSolverMultistepScheduler())
