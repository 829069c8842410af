"""What every rectified-flow family owes to training: exact ratios, the right gradients, its own weights."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from tiny_policies import load_tiny

from drift_pl.core.errors import UserError
from drift_pl.core.registry import find
from drift_pl.core.rng import normal_per_sample, sample_generators
from drift_pl.core.types import Trajectory
from drift_pl.evaluation.sampling import Model, SamplingPlan
from drift_pl.incentive.prompting import EmbeddingNoise
from drift_pl.policies.pipeline import PipelinePolicy
from drift_pl.sampling.rollout import Sampler, replay, rollout
from drift_pl.sampling.stochastic import FlowSde

PROMPTS = ["a red cat", "two big dog", "sky"]
WINDOW = (1, 2)
Make = Callable[..., PipelinePolicy]

pytestmark = pytest.mark.filterwarnings("ignore:unknown to the model's tokenizer")


FAMILIES = ["flux", "zimage", "qwen_image", "flux2_klein", "sana", "wan"]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(family: str, request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"tiny_{family}")


@pytest.fixture
def make(family: str, folder: Path) -> Make:
    def call(pretrained: Path = folder, **options: object) -> PipelinePolicy:
        return load_tiny(family, pretrained, **{"resolution": 16, "max_sequence_length": 40} | options)

    return call


def latents(generator: torch.Generator, policy: PipelinePolicy, count: int = 3) -> torch.Tensor:
    return torch.randn(count, *policy.latent_shape, generator=generator)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_ratio_before_the_first_update_is_exactly_one(make: Make, tune: Callable[..., None], mixed: bool) -> None:
    """Replayed in the rollout's own micro-batches, with gradients on: bit for bit, in bfloat16 as well."""
    policy = make()
    tune(policy)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed, cache_enabled=False):
        check_ratio(policy)


def check_ratio(policy: PipelinePolicy) -> None:
    sampler = Sampler(policy.sigmas(4), 3.0, policy.encode([""]), FlowSde(0.7))
    clean = policy.encode(PROMPTS[:2]).repeat_interleave(3)
    condition = EmbeddingNoise(0.5, low=0.0, high=0.1)(clean, 0, 0, range(6))
    noise = normal_per_sample(sample_generators("initial_latents", 0, 0, samples=range(6)), policy.latent_shape)
    streams = sample_generators("sde_noise", 0, 0, samples=range(6))
    parts = (slice(0, 3), slice(3, 6))
    runs = [rollout(policy, sampler, condition[rows], WINDOW, noise[rows], streams[rows]) for rows in parts]
    trajectory = Trajectory.concatenate(runs, len(clean))
    for rows in torch.arange(6).split(3):
        for k in range(len(WINDOW)):
            step = replay(policy, sampler, trajectory, k, rows, condition[rows], with_reference=k == 1)
            assert torch.equal(step.log_prob_B.detach(), trajectory.log_prob_KB[k, rows])
            assert step.log_prob_B.requires_grad
    assert (trajectory.images_B3HW[0] - trajectory.images_B3HW[3]).abs().max() > 1e-3


def test_gradients_reach_the_adapter_and_nothing_else(
    make: Make, tune: Callable[..., None], generator: torch.Generator
) -> None:
    policy = make()
    tune(policy)
    condition = policy.encode(PROMPTS)
    velocity = policy.predict(latents(generator, policy), torch.tensor(0.5), condition, condition[:1], 3.0)
    velocity.square().mean().backward()
    parts = [policy.network, policy.pipeline.vae, *(getattr(policy.pipeline, name) for name in policy.text_parts)]
    touched = {name for part in parts for name, p in part.named_parameters() if p.grad is not None}
    adapter = {name for name, _ in policy.trainable_parameters()}
    assert touched == adapter
    assert all("lora_" in name for name in adapter)
    assert all(parameter.grad.abs().max() > 0 for _, parameter in policy.trainable_parameters())


def test_gradient_checkpointing_changes_no_gradient(
    make: Make, tune: Callable[..., None], generator: torch.Generator
) -> None:
    noise, gradients = latents(generator, make()), []
    for checkpointing in (False, True):
        policy = make(gradient_checkpointing=checkpointing)
        tune(policy)
        condition = policy.encode(PROMPTS)
        policy.predict(noise, torch.tensor(0.5), condition, condition[:1], 3.0).square().mean().backward()
        gradients.append([parameter.grad for _, parameter in policy.trainable_parameters()])
        assert policy.network.is_gradient_checkpointing == checkpointing
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


def test_predictions_do_not_depend_on_the_rest_of_the_batch(make: Make, generator: torch.Generator) -> None:
    """float32 sums in another order: batches of one take another matrix product; outputs of about 0.5."""
    policy = make()
    noise = latents(generator, policy)
    condition = policy.encode(PROMPTS)
    with torch.no_grad():
        together = policy.predict(noise, torch.tensor(0.6), condition, condition[:1], 2.0)
        alone = policy.predict(noise[1:2], torch.tensor(0.6), condition[1:2], condition[:1], 2.0)
    torch.testing.assert_close(alone, together[1:2], rtol=0, atol=1e-5)


def test_the_reference_is_the_base_and_a_fresh_adapter_changes_nothing(
    make: Make, tune: Callable[..., None], generator: torch.Generator
) -> None:
    policy = make()
    noise = latents(generator, policy)
    condition = policy.encode(PROMPTS)

    def velocity() -> torch.Tensor:
        return policy.predict(noise, torch.tensor(0.6), condition, condition[:1], 2.0).detach()

    fresh = velocity()
    with policy.reference():
        assert torch.equal(velocity(), fresh)
    tune(policy)
    tuned = velocity()
    assert (tuned - fresh).abs().max() > 1e-3
    with policy.reference():
        assert torch.equal(velocity(), fresh)
    assert torch.equal(velocity(), tuned)


@pytest.mark.parametrize("family", FAMILIES[:-2])  # Sana and Wan have one shift for all
def test_evaluation_takes_the_noise_levels_of_its_own_resolution(make: Make) -> None:
    """Catches in evaluation/sampling.py: noise levels of training's resolution (found a real bug)."""
    policy = make()
    with policy.at_resolution(32):
        expected = policy.sigmas(5)
    model = Model.on(policy, torch.device("cpu"), nullcontext)
    for base in (True, False):
        with model.sampler(SamplingPlan(5, 3.0, "", resolution=32), base) as sampler:
            assert torch.equal(sampler.sigmas, expected)
    assert not torch.equal(policy.sigmas(5), expected)


def test_all_of_the_networks_blocks_are_worth_compiling(make: Make) -> None:
    """Oracle: diffusers' own list of the classes that repeat.

    Catches in policies/flux.py: single-stream blocks not compiled.
    """
    policy = make()
    classes = policy.network._repeated_blocks or policy.network._no_split_modules[:1]  # Sana names none
    repeated = [m for m in policy.network.modules() if type(m).__name__ in classes]
    assert {id(block) for block in policy.blocks()} == {id(block) for block in repeated}


def test_nothing_drops_out_and_nothing_is_decoded_in_tiles(make: Make) -> None:
    """Tiles leave seams that judges see, and that training learns to make (DanceGRPO issue 117)."""
    policy = make()
    parts = [policy.network, policy.pipeline.vae, *(getattr(policy.pipeline, name) for name in policy.text_parts)]
    assert not any(module.training for part in parts for module in part.modules())
    assert not policy.pipeline.vae.use_tiling


@pytest.mark.parametrize("family", ["flux", "zimage"])
def test_decoding_is_the_autoencoders_own(make: Make, generator: torch.Generator) -> None:
    """Oracle: latents / scaling + shift through the decoder, [-1, 1] to [0, 1] by diffusers' image processor.

    Catches in policies/pipeline.py: the autoencoder's shift left out; its mean and spread per channel left out.
    """
    policy = make()
    values = latents(generator, policy)
    vae, finish = policy.pipeline.vae, policy.pipeline.image_processor.postprocess
    with torch.no_grad():
        decoded = vae.decode(values / vae.config.scaling_factor + vae.config.shift_factor).sample
    assert torch.equal(policy.decode(values), finish(decoded, output_type="pt"))
    mean, std = [0.5, -1.0, 0.2, 0.0], [2.0, 0.5, 1.0, 3.0]  # an autoencoder that is scaled per channel has no shift
    vae.register_to_config(latents_mean=mean, latents_std=std)
    mean_C11, std_C11 = (torch.tensor(numbers).view(4, 1, 1) for numbers in (mean, std))
    with torch.no_grad():
        decoded = vae.decode(values * std_C11 / vae.config.scaling_factor + mean_C11).sample
    assert torch.equal(policy.decode(values), finish(decoded, output_type="pt"))


def test_a_folder_of_another_family_is_refused_in_one_line(make: Make, family: str, tiny_pipeline: Path) -> None:
    kind = find("family", family).pipeline_class.__name__
    with pytest.raises(UserError, match=rf"^policy\.pretrained=.*StableDiffusion3Pipeline.*family={family}.*{kind}"):
        make(tiny_pipeline)


def test_a_folder_without_a_part_is_refused_in_one_line(make: Make, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    shutil.rmtree(other / "vae")
    with pytest.raises(UserError, match=r"^policy\.pretrained=.*cannot be loaded") as caught:
        make(other)
    assert "\n" not in str(caught.value)


def test_text_encoders_stay_where_they_are_told(make: Make) -> None:
    """`meta` stands in for an accelerator.

    Catches in policies/frozen_parts.py: text encoders move though told to stay.
    """
    staying, moving = make(text_encoder_device="cpu"), make()
    expected = staying.encode(PROMPTS).tokens_BLE
    for policy in (staying, moving):
        policy.to("meta")
        assert policy.pipeline.vae.device.type == "meta"
    assert torch.equal(staying.encode(PROMPTS).tokens_BLE, expected)
    for part in staying.text_parts:
        assert getattr(staying.pipeline, part).device.type == "cpu"
        assert getattr(moving.pipeline, part).device.type == "meta"
    assert moving.text_device.type == "meta"


def test_frozen_weights_in_half_precision_leave_adapter_and_autoencoder_whole(
    make: Make, tune: Callable[..., None], generator: torch.Generator
) -> None:
    """bfloat16 keeps 8 bits: the velocities agree within a few of its steps at their size (about 0.5: 0.004).

    Catches in policies/pipeline.py: an adapter in the base's half precision (found a real bug).
    """
    noise, velocities = latents(generator, make()), []
    for dtype in ("float32", "bfloat16"):
        policy = make(dtype=dtype)
        tune(policy, 0.05)
        kinds = {parameter.dtype for _, parameter in policy.trainable_parameters()}
        assert kinds == {torch.float32}
        assert policy.network.dtype == getattr(torch, dtype)
        assert policy.pipeline.vae.dtype == torch.float32
        condition = policy.encode(PROMPTS)
        assert condition.tokens_BLE.dtype == getattr(torch, dtype)
        velocity = policy.predict(noise, torch.tensor(0.5), condition, condition[:1], 1.0)
        velocity.float().square().mean().backward()
        assert all(parameter.grad.isfinite().all() for _, parameter in policy.trainable_parameters())
        velocities.append(velocity.detach().float())
    difference = (velocities[0] - velocities[1]).abs()
    assert 0 < difference.mean() < 0.05 * velocities[0].std()
