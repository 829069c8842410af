"""How frozen weights are held. What needs a GPU is checked up to the config that diffusers is handed."""

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import BitsAndBytesConfig, PipelineQuantizationConfig, StableDiffusion3Pipeline
from tiny_policies import load_tiny

from drift_pl.builders.policy import build_policy
from drift_pl.config.loading import parse
from drift_pl.config.schema import AUTOCAST, Config
from drift_pl.core.errors import UserError
from drift_pl.policies import load_options
from drift_pl.policies.flux import FluxPolicy
from drift_pl.policies.load_options import loading_options
from drift_pl.policies.sd3 import StableDiffusion3Policy


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the package and a device."""
    monkeypatch.setattr(load_options, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.49" if name == "bitsandbytes" else real(name))


def test_nothing_is_asked_of_diffusers_by_default() -> None:
    assert loading_options(None, None, "transformer") == {}


def test_a_dtype_spares_the_autoencoder() -> None:
    """Catches in policies/load_options.py: the autoencoder in half precision."""
    options = loading_options("bfloat16", None, "transformer")
    assert options == {"dtype": {"default": torch.bfloat16, "vae": torch.float32}}


@pytest.mark.usefixtures("able")
def test_the_denoiser_alone_is_quantised_to_four_bits() -> None:
    """Oracle: diffusers' own resolution of its config, part by part.

    Catches in policies/load_options.py: every part quantised.
    """
    config = loading_options(None, "bitsandbytes_4bit", "transformer")["quantization_config"]
    assert isinstance(config, PipelineQuantizationConfig)
    assert config._resolve_quant_config(True, "vae") is None
    assert config._resolve_quant_config(False, "text_encoder") is None
    resolved = config._resolve_quant_config(True, "transformer")
    assert isinstance(resolved, BitsAndBytesConfig)
    assert resolved.load_in_4bit
    assert resolved.bnb_4bit_quant_type == "nf4"
    assert resolved.bnb_4bit_compute_dtype == torch.bfloat16


@pytest.mark.usefixtures("able")
def test_the_denoiser_alone_is_quantised_to_eight_bits() -> None:
    config = loading_options(None, "bitsandbytes_8bit", "unet")["quantization_config"]
    assert config._resolve_quant_config(True, "transformer") is None
    resolved = config._resolve_quant_config(True, "unet")
    assert resolved.load_in_8bit
    assert not resolved.load_in_4bit


def test_the_command_line_knows_the_same_names() -> None:
    assert Config.require_key("policy.dtype").choices == tuple(load_options.DTYPES)
    assert Config.require_key("policy.quantisation").choices == tuple(load_options.QUANTISATIONS)


def test_a_policy_hands_them_to_diffusers(
    tiny_flux: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Up to `from_pretrained`, whose quantised loading needs a GPU."""
    request.getfixturevalue("able")
    given: dict[str, Any] = {}

    def from_pretrained(location: str, **options: Any) -> None:
        given.update(options, location=location)
        raise OSError("as far as it goes")

    monkeypatch.setattr(FluxPolicy.pipeline_class, "from_pretrained", from_pretrained)
    arguments = [f"policy.pretrained={tiny_flux}", "policy.family=flux", "policy.quantisation=bitsandbytes_4bit"]
    with pytest.raises(UserError, match=r"^policy\.pretrained=.*as far as it goes"):
        build_policy(parse([*arguments, "policy.dtype=bfloat16"]).config)
    assert given["location"] == str(tiny_flux)
    assert given["dtype"]["default"] == torch.bfloat16
    assert given["quantization_config"].components_to_quantize == ["transformer"]


def test_what_quantisation_needs_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_options, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"needs the package bitsandbytes: pip install 'drift-pl\[quantisation\]', or .*=null$"
    ):
        loading_options(None, "bitsandbytes_4bit", "transformer")
    monkeypatch.setattr(load_options, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^policy\.quantisation=bitsandbytes_4bit needs a CUDA device"):
        loading_options(None, "bitsandbytes_4bit", "transformer")


@pytest.fixture(scope="module")
def half_pipeline(tiny_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every network in bfloat16."""
    folder = tmp_path_factory.mktemp("half") / "pipeline"
    missing = dict.fromkeys(StableDiffusion3Policy.optional_parts)
    StableDiffusion3Pipeline.from_pretrained(tiny_pipeline, **missing, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def test_without_a_dtype_weights_are_as_stored_but_for_the_autoencoder(half_pipeline: Path) -> None:
    """Rounding to bfloat16 twice is rounding once: all is as with `dtype=bfloat16`, read whole or by rows.

    Catches in policies/folders.py: diffusers' own default, which is float32.
    Catches in policies/stored.py: a skeleton of another dtype than the files.
    """
    policy, told = load_tiny("sd3", half_pipeline), load_tiny("sd3", half_pipeline, dtype="bfloat16")
    for part in ("transformer", "vae", "text_encoder"):
        ours, theirs = (getattr(each.pipeline, part).state_dict() for each in (policy, told))
        assert ours.keys() == theirs.keys()
        assert all(
            torch.equal(value, theirs[name]) and value.dtype == theirs[name].dtype for name, value in ours.items()
        )
    assert policy.network.dtype == policy.pipeline.text_encoder.dtype == torch.bfloat16
    assert policy.pipeline.vae.dtype == torch.float32
    assert {parameter.dtype for _, parameter in policy.trainable_parameters()} == {torch.float32}
    assert load_tiny("sd3", half_pipeline, sharded=True).network.dtype == torch.bfloat16
    assert load_tiny("sd3", half_pipeline, dtype="float32").network.dtype == torch.float32


@pytest.mark.parametrize(
    ("stored", "precision", "remedy"),
    [
        (torch.float16, "bf16-mixed", r"policy\.dtype=bfloat16, or trainer\.precision=16-mixed$"),
        (torch.bfloat16, "16-mixed", r"policy\.dtype=float16, or trainer\.precision=bf16-mixed$"),
    ],
)
def test_stored_weights_of_another_half_precision_are_refused(
    stored: torch.dtype, precision: str, remedy: str, half_pipeline: Path, tmp_path: Path
) -> None:
    """As `policy.dtype` is; both remedies work, and so does full tuning, whose weights are all float32.

    Catches in policies/load_options.py: weights of the run's own half precision refused.
    Catches in policies/folders.py: nothing refused.
    Catches in policies/loading.py: full tuning refused.
    """
    folder, name = tmp_path / "pipeline", str(stored).removeprefix("torch.")
    StableDiffusion3Policy.pipeline_class.from_pretrained(
        half_pipeline, **dict.fromkeys(StableDiffusion3Policy.optional_parts), dtype=stored
    ).save_pretrained(folder)
    settings = [f"policy.pretrained={folder}", "policy.resolution=16"]
    refused = [*settings, f"trainer.precision={precision}"]
    with pytest.raises(UserError, match=rf"pipeline/transformer is stored in {name}, .*{precision} mixes.*{remedy}"):
        build_policy(parse(refused).config)
    build_policy(parse([*refused, f"policy.dtype={AUTOCAST[precision]}"]).config)
    build_policy(parse([*settings, f"trainer.precision={'16' if name == 'float16' else 'bf16'}-mixed"]).config)
    build_policy(parse([*refused, "policy.tuning=full"]).config)


def test_a_folder_of_another_family_says_which_it_is(half_pipeline: Path) -> None:
    """Catches in policies/folders.py: the family that a folder is not named."""
    with pytest.raises(
        UserError, match=r"holds a StableDiffusion3Pipeline, .* needs a FluxPipeline: use policy\.family=sd3$"
    ):
        load_tiny("flux", half_pipeline)
