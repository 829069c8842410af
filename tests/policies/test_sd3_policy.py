"""Stable Diffusion 3 behind the protocol, against diffusers' own pipeline on the same weights."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from tiny_models import tiny_tokenizer
from tiny_policies import load_tiny
from transformers import T5Config, T5EncoderModel

from drift_pl.core.errors import UserError
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.rollout import Sampler, sample_ode

PROMPTS = ["a red cat", "two big dog", "sky"]
NEGATIVE = "bad art"
TARGETS = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")


def make_policy(folder: Path | str, **options: object) -> StableDiffusion3Policy:
    return load_tiny(StableDiffusion3Policy, folder, **{"targets": TARGETS} | options)


def plain_pipeline(folder: Path) -> StableDiffusion3Pipeline:
    """diffusers' own, on its own copy of the weights."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline_with_t5(tiny_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline and a third text encoder."""
    pipeline = plain_pipeline(tiny_pipeline)
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        pipeline.register_modules(text_encoder_3=T5EncoderModel(config), tokenizer_3=tokenizer)
    folder = tmp_path_factory.mktemp("t5") / "pipeline"
    pipeline.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("max_sequence_length", [0, 4])
@pytest.mark.parametrize("guidance_scale", [1.0, 4.5])
def test_deterministic_samples_are_the_pipelines_own(
    tiny_pipeline: Path, guidance_scale: float, max_sequence_length: int, generator: torch.Generator
) -> None:
    """Oracle: StableDiffusion3Pipeline.__call__ from the same noise.

    Catches in policies/pipeline.py: guidance branches swapped; guidance counted from the wrong branch; guidance: the
    two halves of the batch in the wrong order; autoencoder's shift with the wrong sign.
    Catches in policies/sd3.py: network is given sigma, not sigma * 1000; T5 length ignored.
    """
    noise = torch.randn(3, 4, 8, 8, generator=generator)
    theirs = plain_pipeline(tiny_pipeline)(
        prompt=PROMPTS,
        negative_prompt=[NEGATIVE] * 3,
        num_inference_steps=5,
        guidance_scale=guidance_scale,
        latents=noise.clone(),
        max_sequence_length=max_sequence_length,
        output_type="pt",
    ).images
    policy = make_policy(tiny_pipeline, max_sequence_length=max_sequence_length)
    sampler = Sampler(policy.sigmas(5), guidance_scale, policy.encode([NEGATIVE], negative=True))
    ours = policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(PROMPTS))))
    # float32 sums in another order: five steps of a small network, pixels in [0, 1]
    torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=1e-5)
    assert theirs.std() > 0.01  # the images are not flat
    assert (theirs[0] - theirs[1]).abs().max() > 1e-3


def test_encoding_is_the_pipelines_own_row_by_row(tiny_pipeline: Path) -> None:
    """Oracle: encode_prompt of each text alone."""
    plain = plain_pipeline(tiny_pipeline)
    for length in (0, 4):
        ours = make_policy(tiny_pipeline, max_sequence_length=length).encode(PROMPTS)
        assert ours.tokens_BLE.shape == (3, 16 + length, 32)
        assert ours.num_channels_L.tolist() == [32] * 16 + [0] * length
        assert not ours.tokens_BLE[:, 16:].any()
        assert ours.pooled_BE is not None
        for row, prompt in enumerate(PROMPTS):
            tokens, _, pooled, _ = plain.encode_prompt(
                prompt, None, None, do_classifier_free_guidance=False, max_sequence_length=length
            )
            torch.testing.assert_close(ours.tokens_BLE[row], tokens[0], rtol=0, atol=1e-6)
            torch.testing.assert_close(ours.pooled_BE[row], pooled[0], rtol=0, atol=1e-6)
        assert (ours.pooled_BE[0] - ours.pooled_BE[1]).abs().max() > 1e-3  # prompts are told apart


def test_without_text_tokens_of_its_own_t5_is_neither_loaded_nor_downloaded(
    pipeline_with_t5: Path, tiny_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the same folder without T5. Nothing of it need be there.

    Catches in policies/loading.py: T5 loaded with `max_sequence_length=0`.
    Catches in policies/folders.py: T5 downloaded with `max_sequence_length=0`.
    """
    folder = shutil.copytree(pipeline_with_t5, tmp_path / "pipeline")
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(folder / part)
    policy = make_policy(folder, max_sequence_length=0)
    assert policy.pipeline.text_encoder_3 is policy.pipeline.tokenizer_3 is None
    ours, theirs = (each.encode(PROMPTS) for each in (policy, make_policy(tiny_pipeline, max_sequence_length=0)))
    assert torch.equal(ours.tokens_BLE, theirs.tokens_BLE)
    asked: dict[str, object] = {}
    monkeypatch.setattr(
        StableDiffusion3Pipeline, "download", lambda name, **options: asked.update(options, name=name) or str(folder)
    )
    make_policy("org/model@main", max_sequence_length=0)
    assert asked == {"name": "org/model", "revision": "main", "text_encoder_3": None, "tokenizer_3": None}


def test_a_pipeline_with_t5_is_loaded_with_it(pipeline_with_t5: Path) -> None:
    """Oracle: the pipeline's own encode_prompt; T5's tokens are full width and not to be taken for padding."""
    plain = StableDiffusion3Pipeline.from_pretrained(pipeline_with_t5)
    tokens, _, _, _ = plain.encode_prompt(PROMPTS, None, None, do_classifier_free_guidance=False, max_sequence_length=6)
    ours = make_policy(pipeline_with_t5, max_sequence_length=6).encode(PROMPTS)
    torch.testing.assert_close(ours.tokens_BLE, tokens, rtol=0, atol=1e-6)
    assert ours.num_channels_L.tolist() == [32] * 22
    assert ours.tokens_BLE[:, 16:].any()


def test_guidance_in_one_batch_is_two_passes(tiny_policy: StableDiffusion3Policy, generator: torch.Generator) -> None:
    """Oracle: v_negative + g (v_prompt - v_negative), arXiv 2207.12598, from separate passes without guidance."""
    latents = torch.randn(3, 4, 8, 8, generator=generator)
    condition, negative = tiny_policy.encode(PROMPTS), tiny_policy.encode([NEGATIVE])
    sigma = torch.tensor(0.7)
    with torch.no_grad():
        guided = tiny_policy.predict(latents, sigma, condition, negative, 4.5)
        v_prompt = tiny_policy.predict(latents, sigma, condition, negative, 1)
        v_negative = tiny_policy.predict(latents, sigma, negative.repeat_interleave(3), negative, 1)
    torch.testing.assert_close(guided, v_negative + 4.5 * (v_prompt - v_negative), rtol=0, atol=1e-5)
    assert (v_prompt - v_negative).abs().max() > 1e-3


def test_the_grid_of_noise_levels_is_the_schedulers(tiny_policy: StableDiffusion3Policy) -> None:
    """Catches in policies/sd3.py: sampling grid changes the pipeline's scheduler."""
    plain = tiny_policy.pipeline.scheduler
    before = plain.sigmas.clone()
    sigmas = tiny_policy.sigmas(7)
    assert torch.equal(plain.sigmas, before)  # the pipeline's own scheduler is not touched
    plain.set_timesteps(7)
    assert torch.equal(sigmas, plain.sigmas)
    assert float(sigmas[0]) == 1
    assert float(sigmas[-1]) == 0
    assert (sigmas.diff() < 0).all()


@pytest.mark.parametrize("missing", [(), ("max_shift", "base_image_seq_len")])
def test_a_scheduler_that_shifts_by_resolution_does_so(
    tiny_pipeline: Path, tmp_path: Path, missing: tuple[str, ...], generator: torch.Generator
) -> None:
    """Oracle: StableDiffusion3Pipeline.__call__, which computes the shift from the latents' size."""
    folder = tmp_path / "shifting"
    shutil.copytree(tiny_pipeline, folder)
    file = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text()) | {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 3.0}
    file.write_text(json.dumps({name: value for name, value in config.items() if name not in missing}))
    policy, pipeline = make_policy(folder), plain_pipeline(folder)
    noise = torch.randn(2, 4, 8, 8, generator=generator)
    theirs = pipeline(
        prompt=PROMPTS[:2], num_inference_steps=5, guidance_scale=1.0, latents=noise.clone(), max_sequence_length=0,
        output_type="pt",
    ).images  # fmt: skip
    torch.testing.assert_close(policy.sigmas(5), pipeline.scheduler.sigmas)
    sampler = Sampler(policy.sigmas(5), 1.0, policy.encode([""], negative=True))
    ours = policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(PROMPTS[:2]))))
    torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=1e-5)
    with policy.at_resolution(12):
        assert (policy.sigmas(5) - pipeline.scheduler.sigmas).abs().max() > 1e-4


def test_decoding_is_the_autoencoders_own(tiny_policy: StableDiffusion3Policy, generator: torch.Generator) -> None:
    """Oracle: latents / scaling + shift through the decoder, [-1, 1] to [0, 1] by diffusers' image processor."""
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    vae = tiny_policy.pipeline.vae
    with torch.no_grad():
        decoded = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor).sample
    expected = tiny_policy.pipeline.image_processor.postprocess(decoded, output_type="pt")
    images = tiny_policy.decode(latents)
    assert torch.equal(images, expected)
    assert images.min() >= 0
    assert images.max() <= 1


def test_a_fresh_adapter_changes_nothing_bit_for_bit(tiny_pipeline: Path, generator: torch.Generator) -> None:
    """Oracle: the transformer as diffusers loads it, without peft."""
    policy = make_policy(tiny_pipeline)
    latents, condition = torch.randn(2, 4, 8, 8, generator=generator), policy.encode(PROMPTS[:2])
    with torch.no_grad():
        expected = plain_pipeline(tiny_pipeline).transformer(
            hidden_states=latents,
            timestep=torch.full((2,), 600.0),
            encoder_hidden_states=condition.tokens_BLE,
            pooled_projections=condition.pooled_BE,
            return_dict=False,
        )[0]
        ours = policy.predict(latents, torch.tensor(0.6), condition, condition[:1], 1)
    assert torch.equal(ours, expected)


def test_the_reference_is_the_base_bit_for_bit_and_the_adapter_returns(
    tiny_policy: StableDiffusion3Policy, tune: Callable[..., None], generator: torch.Generator
) -> None:
    """Catches in policies/lora.py: switching the adapter off does nothing; the adapter stays off after the
    reference.
    """
    latents, condition = torch.randn(2, 4, 8, 8, generator=generator), tiny_policy.encode(PROMPTS[:2])

    def velocity() -> torch.Tensor:
        return tiny_policy.predict(latents, torch.tensor(0.6), condition, condition[:1], 1)

    base = velocity().detach()
    tune(tiny_policy)
    tuned = velocity().detach()
    assert (tuned - base).abs().max() > 1e-3
    with torch.no_grad(), tiny_policy.reference():
        assert torch.equal(velocity(), base)
    names = [name for name, _ in tiny_policy.trainable_parameters()]
    assert names
    after = velocity()
    assert torch.equal(after.detach(), tuned)
    after.square().sum().backward()
    assert all(parameter.grad is not None for _, parameter in tiny_policy.trainable_parameters())
    with pytest.raises(ZeroDivisionError), tiny_policy.reference():
        raise ZeroDivisionError
    assert torch.equal(velocity().detach(), tuned)  # an error inside leaves the adapter on
    assert [name for name, _ in tiny_policy.trainable_parameters()] == names


def test_gradients_reach_the_adapter_and_nothing_else(
    tiny_policy: StableDiffusion3Policy, tune: Callable[..., None], generator: torch.Generator
) -> None:
    tune(tiny_policy)
    condition, negative = tiny_policy.encode(PROMPTS), tiny_policy.encode([NEGATIVE])
    latents = torch.randn(3, 4, 8, 8, generator=generator)
    tiny_policy.predict(latents, torch.tensor(0.5), condition, negative, 4.5).square().mean().backward()
    pipeline = tiny_policy.pipeline
    parts = (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2)
    touched = {name for part in parts for name, p in part.named_parameters() if p.grad is not None}
    adapter = {name for name, _ in tiny_policy.trainable_parameters()}
    assert touched == adapter
    # two blocks, four layers each, A and B
    assert len(adapter) == 2 * 4 * 2
    assert all("lora_" in name for name in adapter)
    assert all(parameter.grad.abs().max() > 0 for _, parameter in tiny_policy.trainable_parameters())


def test_gradient_checkpointing_changes_no_gradient(
    tiny_pipeline: Path, tune: Callable[..., None], generator: torch.Generator
) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    gradients = []
    for checkpointing in (False, True):
        policy = make_policy(tiny_pipeline, gradient_checkpointing=checkpointing)
        tune(policy)
        condition = policy.encode(PROMPTS[:2])
        policy.predict(latents, torch.tensor(0.5), condition, condition[:1], 1).square().mean().backward()
        gradients.append([parameter.grad for _, parameter in policy.trainable_parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


def test_nothing_drops_out(tiny_policy: StableDiffusion3Policy) -> None:
    """Rollout and replay must compute the same thing."""
    assert not any(module.training for module in tiny_policy.network.modules())
    assert not any(module.training for module in tiny_policy.pipeline.vae.modules())
    assert not any(module.training for module in tiny_policy.pipeline.text_encoder.modules())


def test_a_resolution_is_a_multiple_of_the_patch_in_pixels(tiny_pipeline: Path) -> None:
    """Two pixels per latent, two latents per patch."""
    assert make_policy(tiny_pipeline, resolution=12).latent_shape == (4, 6, 6)
    assert make_policy(tiny_pipeline).latent_shape == (4, 8, 8)
    with pytest.raises(UserError, match=r"policy\.resolution=14 is not a multiple of 4: use e\.g\. 12"):
        make_policy(tiny_pipeline, resolution=14)


def test_a_word_that_was_never_learnt_is_reported(tiny_policy: StableDiffusion3Policy) -> None:
    """The tiny tokenizer knows letters only, so every word of more than three letters is spelled."""
    with pytest.warns(UserWarning, match="unknown to the model's tokenizer.*: purple"):
        tiny_policy.encode(["a purple cat"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_policy.encode(["a red cat", ""])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./no_such_folder", "does not exist"),
        ("pkg:no_such_package/weights", "no installed package 'no_such_package'"),
        ("some-organisation/some-model", "could not be fetched from the hub"),
    ],
)
def test_what_is_not_there_is_named_with_its_key(name: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        make_policy(name)
    message = str(caught.value)
    assert message.startswith(f"policy.pretrained={name}: ")
    assert says in message
    assert "\n" not in message


def test_folders_that_are_not_such_a_pipeline_are_refused(
    tiny_pipeline: Path, tiny_preference: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"^policy\.pretrained=.*model_index\.json is missing") as caught:
        make_policy(tiny_preference)
    assert "\n" not in str(caught.value)
    other = tmp_path / "other"
    shutil.copytree(tiny_pipeline, other)
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    with pytest.raises(UserError, match=r"^policy\.pretrained=.*FluxPipeline.*StableDiffusion3Pipeline"):
        make_policy(other)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_pipeline, broken)
    (broken / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"^policy\.pretrained=.*cannot be loaded") as caught:
        make_policy(broken)
    assert "\n" not in str(caught.value)
