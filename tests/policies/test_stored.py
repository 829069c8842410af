"""A denoiser without weights: what is refused before any process reads them. What it is filled with: test_sharding."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_policies import load_tiny

from drift_pl.core.errors import UserError
from drift_pl.policies.stored import StoredNetwork, weight_files

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_pipeline: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_pipeline, tmp_path / "pipeline")


def test_a_skeleton_takes_no_memory_but_its_adapter(tiny_pipeline: Path) -> None:
    policy = load_tiny("sd3", tiny_pipeline, sharded=True)
    real = {name for name, value in policy.network.named_parameters() if not value.is_meta}
    assert real == {name for name, _ in policy.trainable_parameters()}
    assert not any(value.requires_grad for value in policy.network.parameters() if value.is_meta)
    full = load_tiny("sd3", tiny_pipeline, sharded=True, tuning="full")
    assert all(value.is_meta and value.requires_grad for value in full.network.parameters())


def test_modules_that_diffusers_keeps_in_float32_are_kept(tiny_wan: Path) -> None:
    """Wan's time embedding, modulation and norms; against what diffusers' own loading gives every weight.

    Catches in policies/stored.py: every weight of the asked dtype; names compared as a whole.
    """
    given = {"dtype": "bfloat16", "targets": ["to_q"]}
    skeleton, whole = (load_tiny("wan", tiny_wan, sharded=sharded, **given).network for sharded in (True, False))
    expected = {name: value.dtype for name, value in whole.named_parameters() if "lora_" not in name}
    assert {name: value.dtype for name, value in skeleton.named_parameters() if "lora_" not in name} == expected
    assert set(expected.values()) == {torch.bfloat16, torch.float32}


def test_a_warm_start_is_in_the_adapter(tiny_pipeline: Path, tmp_path: Path) -> None:
    """Catches in policies/loading.py: a warm start is copied into an adapter on the meta device, and is lost."""
    whole = load_tiny("sd3", tiny_pipeline)
    weights = {f"transformer.{name.replace('.default.', '.')}": value for name, value in whole.trainable_parameters()}
    weights = {name: torch.full_like(value, 0.25) for name, value in weights.items()}
    save_file(weights, tmp_path / "lora.safetensors")
    policy = load_tiny("sd3", tiny_pipeline, sharded=True, warm_start=str(tmp_path / "lora.safetensors"), alpha=4)
    assert all(bool((value == 0.25).all()) for _, value in policy.trainable_parameters())


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_tiny("sd3", folder, sharded=True)
    message = str(caught.value)
    assert message.startswith(f"policy.pretrained={folder}: cannot be loaded: ")
    return message


def test_other_formats_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "transformer" / "diffusion_pytorch_model.bin")
    assert refused(folder).endswith("is missing, which trainer.strategy=fsdp reads: use trainer.strategy=ddp")


@pytest.mark.parametrize(("shape", "says"), [(None, "not there"), ((3, 2), "3 x 2")])
def test_weights_of_another_network_are_refused(folder: Path, shape: tuple[int, int] | None, says: str) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights["proj_out.weight"]
    if shape:
        weights["proj_out.weight"] = torch.zeros(shape)
    save_file(weights, folder / WEIGHTS)
    assert refused(folder).endswith(f"proj_out.weight of its transformer is {says}")


def test_other_folders_are_refused_as_ever(folder: Path, tiny_flux: Path) -> None:
    assert refused(tiny_flux).endswith(
        "it holds a FluxPipeline, and policy.family=sd3 needs a StableDiffusion3Pipeline: use policy.family=flux"
    )
    (folder / "model_index.json").unlink()
    assert refused(folder).endswith("model_index.json is missing: this is not a diffusers pipeline folder")


def test_weights_in_several_files_are_found(folder: Path) -> None:
    """As diffusers stores a large network: an index, and parts."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for file, inside in parts.items():
        save_file({name: weights[name] for name in inside}, folder / "transformer" / file)
    index = {"weight_map": {name: file for file, inside in parts.items() for name in inside}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    policy = load_tiny("sd3", folder, sharded=True, tuning="full")
    stored = policy.adapter._stored
    assert isinstance(stored, StoredNetwork)
    assert [file.name for file in weight_files(stored.folder)] == ["a.safetensors", "b.safetensors"]
