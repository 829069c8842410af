"""The shipped folders load with the usual classes and work (small samples; acceptance.py measures quality)."""

import json
import stat

import pytest
import torch
from acceptance_judges import judge_ranking, lpips_spearman, spearman
from acceptance_samples import load_pipeline, sample_images
from training_autoencoder import reconstruct
from training_denoiser import embed, tokenize
from training_encoders import embed_images
from training_preference import score
from transformers import AutoImageProcessor, AutoModel, CLIPModel, CLIPProcessor

from drift_pl.builtin import WEIGHTS
from drift_pl.builtin.reader import AttributeReader, shows
from drift_pl.builtin.world import render, sample_scenes


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(WEIGHTS)


def test_total_size_and_file_modes() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25e6
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044, path
        assert path.suffix in {".safetensors", ".json", ".txt", ".md", ".jinja"}, path


def test_training_sees_what_the_pipeline_encodes(pipeline) -> None:
    prompts = ["a large red circle", "something blue on the left"]
    encoders = [pipeline.text_encoder, pipeline.text_encoder_2]
    tokens_BLD, pooled_BD = embed(encoders, tokenize(pipeline.tokenizer, prompts))
    expected = pipeline.encode_prompt(
        prompts, None, None, do_classifier_free_guidance=False, max_sequence_length=0, device="cpu"
    )
    assert torch.equal(tokens_BLD, expected[0])
    assert torch.equal(pooled_BD, expected[2])


def test_prompts_are_told_apart(pipeline) -> None:
    prompts = ["a circle", "a cross", "something red", ""]
    pooled_BD = embed([pipeline.text_encoder, pipeline.text_encoder_2], tokenize(pipeline.tokenizer, prompts))[1]
    assert torch.pdist(pooled_BD).min() > 0.1


def test_samples_are_on_prompt_and_reproducible(pipeline) -> None:
    images = sample_images(pipeline, "a large red circle", 16, guidance=2.0, steps=12, seed=1)
    assert images.shape == (16, 3, 32, 32)
    named = {"size": 1, "colour": 0, "shape": 0}
    assert shows(AttributeReader()(images), named).double().mean() >= 0.6
    again = sample_images(pipeline, "a large red circle", 16, guidance=2.0, steps=12, seed=1)
    assert torch.equal(images, again)


def test_reader_is_right_on_reconstructions(pipeline) -> None:
    scenes = sample_scenes(200, torch.Generator().manual_seed(3))
    with torch.no_grad():
        reading = AttributeReader()(reconstruct(pipeline.vae, render(scenes)))
    right = torch.stack([reading.attributes[name] == values for name, values in scenes.attributes.items()]).all(0)
    assert (right & reading.readable_B).double().mean() >= 0.94


def test_latents_are_standardised(pipeline) -> None:
    images = render(sample_scenes(256, torch.Generator().manual_seed(4))) * 2 - 1
    posterior = pipeline.vae.encode(images).latent_dist
    config = pipeline.vae.config
    latents = (posterior.mean - config.shift_factor) * config.scaling_factor
    assert latents.mean().item() == pytest.approx(0.0, abs=0.1)
    assert latents.std().item() == pytest.approx(1.0, abs=0.1)
    assert posterior.std.max() < 1e-3  # sampling the posterior adds nothing


def test_judge_ranks_on_prompt_images_first() -> None:
    ranking = judge_ranking(WEIGHTS / "preference", seed=5, count=200)
    assert ranking["equal"] >= 0.93
    assert ranking["random"] >= 0.93
    assert ranking["broken"] >= 0.93


def test_judge_score_is_the_models_own_logit() -> None:
    model, processor = (
        CLIPModel.from_pretrained(WEIGHTS / "preference"),
        CLIPProcessor.from_pretrained(WEIGHTS / "preference"),
    )
    images = render(sample_scenes(4, torch.Generator().manual_seed(6)))
    texts = ["a cross", "something green"]
    inputs = processor(images=list(images), text=texts, return_tensors="pt", padding="max_length", do_rescale=False)
    assert inputs["input_ids"].shape == (2, 16)
    expected = model.eval()(**inputs).logits_per_image
    found = score(model, images, tokenize(processor.tokenizer, texts))
    assert (found - expected).abs().max() < 1e-3
    assert found.min() > 15.0
    assert found.max() < 29.0


@pytest.mark.parametrize("name", ["shaping_encoder", "evaluation_encoder"])
def test_encoder_distance_follows_the_attributes(name: str) -> None:
    assert spearman(WEIGHTS / name, seed=7, count=300) >= 0.77


@pytest.mark.parametrize("name", ["shaping_encoder", "evaluation_encoder"])
def test_encoder_processor_matches_what_it_was_trained_with(name: str) -> None:
    images = (render(sample_scenes(4, torch.Generator().manual_seed(8))) * 255).round() / 255
    encoder, processor = (
        AutoModel.from_pretrained(WEIGHTS / name).eval(),
        AutoImageProcessor.from_pretrained(WEIGHTS / name),
    )
    pixels = processor(list(images), return_tensors="pt", do_rescale=False)["pixel_values"]
    pooled = encoder(pixel_values=pixels).pooler_output
    assert (pooled / pooled.norm(dim=-1, keepdim=True) - embed_images(encoder, images)).abs().max() < 1e-4


def test_the_two_encoders_are_of_different_architecture() -> None:
    kinds = [
        json.loads((WEIGHTS / f"{name}_encoder" / "config.json").read_text())["model_type"]
        for name in ("shaping", "evaluation")
    ]
    assert kinds == ["dinov2", "convnext"]


def test_lpips_follows_the_attributes() -> None:
    assert lpips_spearman(WEIGHTS / "lpips", seed=9, count=150) >= 0.6
