"""FLUX.1 behind the protocol, against diffusers' own pipeline on the same weights."""

from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from tiny_models import save_tiny_flux
from tiny_policies import load_tiny
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.flux import FluxPolicy, image_positions, pack, unpack
from drift_pl.sampling.rollout import Sampler, sample_ode

PROMPTS = ["a red cat", "two big dog", "sky"]
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
LENGTH = 12


@pytest.fixture(scope="module")
def schnell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        return save_tiny_flux(tmp_path_factory.mktemp("schnell") / "flux", distilled=False)


def make_policy(folder: Path, **options: object) -> FluxPolicy:
    return load_tiny(
        FluxPolicy, folder, **{"targets": TARGETS, "resolution": 16, "max_sequence_length": LENGTH} | options
    )


def plain_pipeline(folder: Path) -> FluxPipeline:
    """diffusers' own, on its own copy of the weights."""
    pipeline = FluxPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn_by_diffusers(folder: Path, noise: Tensor, guidance_scale: float, side: int = 16) -> Tensor:
    packed = FluxPipeline._pack_latents(noise, *noise.shape)
    return plain_pipeline(folder)(
        prompt=PROMPTS,
        height=side,
        width=side,
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        latents=packed,
        max_sequence_length=LENGTH,
        output_type="pt",
    ).images


def drawn_by_the_policy(policy: FluxPolicy, noise: Tensor, guidance_scale: float) -> Tensor:
    sampler = Sampler(policy.sigmas(5), guidance_scale, policy.encode(["bad art"], negative=True))
    return policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(PROMPTS))))


@pytest.mark.parametrize("guidance_scale", [1.0, 3.5])
@pytest.mark.parametrize("side", [16, 24])
def test_deterministic_samples_are_the_pipelines_own(
    tiny_flux: Path, guidance_scale: float, side: int, generator: torch.Generator
) -> None:
    """Oracle: FluxPipeline.__call__ from the same noise, at two resolutions and hence with two time shifts.

    Catches in policies/flux.py: guidance not given to the network; rows and columns of positions swapped; time in
    thousandths twice; channels of a token transposed.
    """
    noise = torch.randn(3, 4, side // 2, side // 2, generator=generator)
    theirs = drawn_by_diffusers(tiny_flux, noise, guidance_scale, side)
    policy = make_policy(tiny_flux)
    with policy.at_resolution(side):
        ours = drawn_by_the_policy(policy, noise, guidance_scale)
    # float32 sums in another order: five steps of a small network, pixels in [0, 1]
    torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=1e-5)
    assert theirs.std() > 0.01  # the images are not flat
    assert (theirs[0] - theirs[1]).abs().max() > 1e-3


def test_a_model_without_guidance_draws_the_pipelines_images(schnell: Path, generator: torch.Generator) -> None:
    """FLUX.1 [schnell]: no guidance input, no time shift; the pipeline ignores the scale that it is given."""
    noise = torch.randn(3, 4, 8, 8, generator=generator)
    ours = drawn_by_the_policy(make_policy(schnell), noise, 1.0)
    torch.testing.assert_close(ours, drawn_by_diffusers(schnell, noise, 3.5).float(), rtol=0, atol=1e-5)


def test_guidance_is_what_the_network_is_told_in_one_pass(
    tiny_flux: Path, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy(tiny_flux)
    told: list[list[float]] = []
    forward = policy.network.forward

    def spy(*args: Tensor, **inputs: Tensor) -> tuple[Tensor]:
        told.append(inputs["guidance"].tolist())
        return forward(*args, **inputs)

    monkeypatch.setattr(policy.network, "forward", spy)
    latents, condition = torch.randn(2, 4, 8, 8, generator=generator), policy.encode(PROMPTS[:2])
    with torch.no_grad():
        low, high, other = (
            policy.predict(latents, torch.tensor(0.6), condition, negative, scale)
            for negative, scale in ((condition[:1], 1.0), (condition[:1], 6.0), (condition[1:], 6.0))
        )
    assert told == [[1.0, 1.0], [6.0, 6.0], [6.0, 6.0]]
    assert (low - high).abs().max() > 1e-3
    assert torch.equal(high, other)  # a negative prompt is not used


def test_a_scale_for_a_model_without_guidance_is_refused(schnell: Path, generator: torch.Generator) -> None:
    policy = make_policy(schnell)
    condition, latents = policy.encode(PROMPTS), torch.randn(3, 4, 8, 8, generator=generator)
    with pytest.raises(UserError, match=r"^policy\.guidance_scale=3\.5: .*set policy\.guidance_scale=1") as caught:
        policy.predict(latents, torch.tensor(0.5), condition, condition[:1], 3.5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [4, LENGTH])
def test_encoding_is_the_pipelines_own_row_by_row(tiny_flux: Path, length: int) -> None:
    """Oracle: encode_prompt of each text alone; T5 is padded, and what it says of padding is seen by the network."""
    ours = make_policy(tiny_flux, max_sequence_length=length).encode(PROMPTS)
    assert ours.tokens_BLE.shape == (3, length, 32)
    assert ours.num_channels_L.tolist() == [32] * length
    assert ours.num_tokens_B is None
    assert not ours.tokens_BLE.requires_grad
    assert ours.pooled_BE is not None
    plain = plain_pipeline(tiny_flux)
    for row, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            tokens, pooled, _ = plain.encode_prompt(prompt, max_sequence_length=length)
        torch.testing.assert_close(ours.tokens_BLE[row], tokens[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(ours.pooled_BE[row], pooled[0], rtol=0, atol=1e-6)
    assert (ours.pooled_BE[0] - ours.pooled_BE[1]).abs().max() > 1e-3


@pytest.mark.parametrize("length", [0, 513])
def test_text_lengths_that_the_model_does_not_take_are_refused(tiny_flux: Path, length: int) -> None:
    with pytest.raises(UserError, match=rf"^policy\.max_sequence_length={length}: FLUX takes 1 to 512"):
        make_policy(tiny_flux, max_sequence_length=length).encode(PROMPTS)


@pytest.mark.parametrize("side", [16, 64])
def test_the_noise_levels_are_the_pipelines_at_each_resolution(
    tiny_flux: Path, side: int, generator: torch.Generator
) -> None:
    """Oracle: the pipeline's scheduler after a call. The shift is a function of the number of image tokens.

    Catches in policies/flux.py: time shift by latents, not by tokens.
    Catches in policies/flow.py: the pipeline's own scheduler changed; the scheduler's shifts not read.
    """
    plain, policy = plain_pipeline(tiny_flux), make_policy(tiny_flux)
    plain("a", height=side, width=side, num_inference_steps=7, max_sequence_length=LENGTH, output_type="latent")
    before = policy.pipeline.scheduler.sigmas.clone()
    own = policy.sigmas(7)
    with policy.at_resolution(side):
        assert torch.equal(policy.sigmas(7), plain.scheduler.sigmas)
    assert torch.equal(own, policy.sigmas(7))
    assert torch.equal(own, plain.scheduler.sigmas) == (side == 16)
    assert torch.equal(policy.pipeline.scheduler.sigmas, before)  # the pipeline's own scheduler is not touched
    assert policy.sigmas(7)[[0, -1]].tolist() == [1, 0]


def test_packing_and_positions_are_the_pipelines(generator: torch.Generator) -> None:
    latents = torch.randn(2, 4, 6, 10, generator=generator)
    assert torch.equal(pack(latents), FluxPipeline._pack_latents(latents, *latents.shape))
    assert torch.equal(unpack(pack(latents), 3, 5), latents)
    theirs = FluxPipeline._prepare_latent_image_ids(2, 3, 5, torch.device("cpu"), torch.float32)
    assert torch.equal(image_positions(3, 5, torch.device("cpu")), theirs)


def test_a_resolution_is_a_multiple_of_a_token_in_pixels(tiny_flux: Path) -> None:
    """Two pixels per latent, two latents per token; the pipeline's own side is 128 latents."""
    assert make_policy(tiny_flux, resolution=12).latent_shape == (4, 6, 6)
    assert make_policy(tiny_flux, resolution=None).latent_shape == (4, 128, 128)
    with pytest.raises(UserError, match=r"policy\.resolution=14 is not a multiple of 4: use e\.g\. 12"):
        make_policy(tiny_flux, resolution=14)


def test_the_default_targets_adapt_both_kinds_of_blocks(tiny_flux: Path) -> None:
    """One double block (8 layers) and one single block (3): A and B each."""
    policy = make_policy(tiny_flux)
    layers = {name.partition(".lora_")[0] for name, _ in policy.trainable_parameters()}
    assert len(layers) == 8 + 3
    assert {name.split(".")[0] for name in layers} == {"transformer_blocks", "single_transformer_blocks"}
