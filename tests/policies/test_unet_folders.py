"""What folders and files of UNet models hold: adapters, other sizes, schedulers; and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.training_utils import _collate_lora_metadata
from peft import get_peft_model_state_dict
from tiny_policies import load_tiny
from torch import Tensor

from drift_pl.builders.stochastic_steps import build_stochastic_step
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.unet import StableDiffusionPolicy
from drift_pl.sampling.rollout import Sampler, sample_ode

PIPELINES = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
SCHEDULER = "scheduler/scheduler_config.json"
both_families = pytest.mark.parametrize("family", ["sd15", "sdxl"])
Change = Callable[[dict[str, Any]], dict[str, Any]]


def make(folder: Path, family: str = "sd15", **options: Any) -> StableDiffusionPolicy:
    return load_tiny(family, folder, **options)


def sample(policy: StableDiffusionPolicy, side: int = 8) -> Tensor:
    noise = torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(1))
    sampler = Sampler(policy.sigmas(3), 2.0, policy.encode(["bad"], negative=True))
    return policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(["a cat", "sky"]))))


def changed(folder: Path, target: Path, file: str, change: Change) -> Path:
    """A folder of links to another, one JSON file of it edited."""
    for source in folder.rglob("*"):
        if source.is_file():
            place = target / source.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source)
    content = change(json.loads((folder / file).read_text()))
    (target / file).unlink()
    (target / file).write_text(json.dumps(content))
    return target


@both_families
def test_a_warm_start_is_the_adapter_that_was_saved(
    family: str, tiny_unets: dict[str, Path], tune: Callable[..., None], tmp_path: Path
) -> None:
    """As a training script of diffusers stores it; and what diffusers itself makes of the file.

    Catches in policies/pipeline.py: a UNet's LoRA looked for under `transformer.`.
    """
    policy = make(tiny_unets[family], family)
    base = sample(policy)
    tune(policy)
    PIPELINES[family].save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(policy.network),
        **_collate_lora_metadata({"unet": policy.network}),
    )
    warm = make(tiny_unets[family], family, warm_start=str(tmp_path), seed=9)
    assert torch.equal(sample(warm), sample(policy))
    stock = make(tiny_unets[family], family)
    stock.network.delete_adapters("default")
    stock.pipeline.load_lora_weights(tmp_path)
    torch.testing.assert_close(sample(warm), sample(stock), rtol=0, atol=1e-5)  # float32 sums of another module order
    with warm.reference():
        assert torch.equal(sample(warm), base)
    assert (sample(warm) - base).abs().max() > 1e-2
    with pytest.raises(UserError, match=r"its rank is 4 and its alpha 8; set policy\.lora\.rank=4 policy\.lora\.alpha"):
        make(tiny_unets[family], family, warm_start=str(tmp_path), alpha=4)


def test_the_adapter_of_a_whole_unet_scales_to_nothing(tiny_unets: dict[str, Path], tune: Callable[..., None]) -> None:
    policy = make(tiny_unets["sd15"])
    base = sample(policy)
    tune(policy)
    with policy.adapter_scale(0.0):
        torch.testing.assert_close(sample(policy), base, rtol=0, atol=1e-6)


def test_targets_that_a_unet_does_not_have_are_named(tiny_unets: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"policy\.lora\.targets: add_q_proj match no layer; the model has e\.g\. "):
        make(tiny_unets["sd15"], targets=("to_q", "add_q_proj"))


@both_families
def test_another_resolution_is_the_pipelines_own(family: str, tiny_unets: dict[str, Path]) -> None:
    """Oracle: the pipeline's call with height and width, which SDXL's network is told of."""
    policy, pipeline = make(tiny_unets[family], family), PIPELINES[family].from_pretrained(tiny_unets[family])
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    with policy.at_resolution(24):
        assert policy.latent_shape == (4, 12, 12)
        ours = sample(policy, 12)
    noise = torch.randn(2, 4, 12, 12, generator=torch.Generator().manual_seed(1))
    settings = {"num_inference_steps": 3, "guidance_scale": 2.0, "height": 24, "width": 24, "output_type": "pt"}
    theirs = pipeline(["a cat", "sky"], negative_prompt=["bad"] * 2, latents=noise, **settings).images
    torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=1e-5)  # float32 sums in another order
    assert policy.latent_shape == (4, 8, 8)
    with pytest.raises(UserError, match=r"evaluation\.resolution=15 is not a multiple of 2: use e\.g\. 14"):
        policy.at_resolution(15).__enter__()


@both_families
def test_all_channels_of_all_tokens_are_written(family: str, tiny_unets: dict[str, Path]) -> None:
    condition = make(tiny_unets[family], family).encode(["a cat"])
    assert condition.num_channels_L.tolist() == [condition.tokens_BLE.shape[2]] * 16
    assert (condition.pooled_BE is None) == (family == "sd15")


def test_an_autoencoder_with_its_own_mean_and_std_decodes_as_the_pipeline_does(
    tiny_unets: dict[str, Path], tmp_path: Path
) -> None:
    """Catches in policies/pipeline.py: the autoencoder's own spread left out."""
    own = {"latents_mean": [0.5, -1.0, 0.2, 0.0], "latents_std": [2.0, 0.5, 1.0, 3.0]}
    folder = changed(tiny_unets["sdxl"], tmp_path, "vae/config.json", lambda content: content | own)
    policy = make(folder, "sdxl")
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(own[name]).view(1, 4, 1, 1) for name in own)
    vae = policy.pipeline.vae
    with torch.no_grad():
        expected = vae.decode(latents * std / vae.config.scaling_factor + mean).sample
    assert torch.equal(policy.decode(latents), policy.pipeline.image_processor.postprocess(expected, "pt"))
    vae.half()  # the folder says force_upcast: such an autoencoder overflows in float16
    policy.decode(latents)
    assert vae.dtype == torch.float32


def test_a_safety_checker_is_neither_loaded_nor_missed(tiny_unets: dict[str, Path], tmp_path: Path) -> None:
    """The published folder has one; here its weights are not even there.

    Catches in policies/unet.py: the safety checker loaded.
    """
    checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    folder = changed(tiny_unets["sd15"], tmp_path, "model_index.json", lambda content: content | checker)
    assert make(folder).pipeline.safety_checker is None


def test_blocks_that_are_compiled_are_all_of_them(tiny_unets: dict[str, Path]) -> None:
    """Catches in policies/unet.py: the middle block not compiled."""
    unet = make(tiny_unets["sd15"], compile=True).network
    compiled = [name for name, module in unet.named_modules() if module._compiled_call_impl is not None]
    assert compiled == ["down_blocks.0", "down_blocks.1", "up_blocks.0", "up_blocks.1", "mid_block"]


@pytest.mark.parametrize(
    ("family", "file", "change", "says"),
    [
        ("sdxl", "model_index.json", {}, "it holds a StableDiffusionPipeline, and policy.family=sdxl needs a Stable"),
        (
            "sd15",
            "scheduler/scheduler_config.json",
            {"prediction_type": "flow"},
            "prediction_type is flow, and none of",
        ),
        ("sd15", "unet/config.json", {"time_cond_proj_dim": 8}, "latent-consistency model"),
    ],
)
def test_folders_that_cannot_be_sampled_by_ddim_are_refused(
    family: str, file: str, change: dict[str, Any], says: str, tiny_unets: dict[str, Path], tmp_path: Path
) -> None:
    folder = changed(tiny_unets["sd15"], tmp_path, file, lambda content: content | change)
    with pytest.raises(UserError) as caught:
        make(folder, family)
    message = str(caught.value)
    assert message.startswith(f"policy.pretrained={folder}: cannot be loaded: ")
    assert says in message
    assert "\n" not in message


def test_a_scheduler_without_betas_is_refused(tiny_unets: dict[str, Path], tmp_path: Path) -> None:
    """A flow under the same class of pipeline would silently be sampled on DDIM's default betas.

    Catches in policies/unet.py: a flow's scheduler sampled on DDIM's default betas.
    """
    other = {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}
    folder = changed(tiny_unets["sd15"], tmp_path / "one", "model_index.json", lambda content: content | other)
    folder = changed(folder, tmp_path / "two", SCHEDULER, lambda _: {"shift": 1.0})
    with pytest.raises(
        UserError, match="its scheduler is a FlowMatchEulerDiscreteScheduler, and policy.family=sd15 ne"
    ):
        make(folder)


def test_a_start_without_any_signal_is_refused(tiny_unets: dict[str, Path], tmp_path: Path) -> None:
    """Zero terminal SNR (arXiv 2305.08891): no noise prediction gives back the image there.

    Catches in policies/unet.py: a start at alpha_bar = 0 let through.
    """
    schedule = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    policy = make(changed(tiny_unets["sd15"], tmp_path, SCHEDULER, lambda content: content | schedule))
    with pytest.raises(UserError, match=r"starts at alpha_bar = 0.*set timestep_spacing to leading"):
        policy.sigmas(10)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["policy.family=sd15"],
            "sampler.kind=flow_sde is for flow models, and policy.family=sd15 is not one: use ddim",
        ),
        (["sampler.kind=ddim"], "sampler.kind=ddim is for policy.family=sd15 or sdxl, and sd3 is a flow model: use"),
        (
            ["policy.family=sdxl", "sampler.kind=ddim", "sampler.noise_level=1.5"],
            "sampler.noise_level=1.5: ddim takes an eta in (0, 1], e.g. 1",
        ),
    ],
)
def test_each_kind_of_model_has_its_own_kind_of_step(overrides: list[str], says: str) -> None:
    """Catches in config/schema_model.py: eta over 1 accepted."""
    with pytest.raises(UserError) as caught:
        parse(overrides)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_last_step_is_trained_only_where_it_has_noise(tiny_unets: dict[str, Path]) -> None:
    """The tiny SDXL folder's scheduler ends at alpha_bar = 1, that of Stable Diffusion 1.5 before it.

    Catches in builders/stochastic_steps.py: DDIM's noiseless last step let into the window.
    """
    settings = ["experiment=shapes_drift", "policy.family=sd15", "sampler.kind=ddim", "sampler.noise_level=1"]
    settings += ["sampler.steps=4", "sampler.window_range=[]", "sampler.window_size=null"]
    without, noisy = (parse([*settings, f"sampler.noisy_last_step={last}"]).config for last in ("false", "true"))
    ends_at_image, ends_before = make(tiny_unets["sdxl"], "sdxl"), make(tiny_unets["sd15"])
    for config, policy in ((without, ends_at_image), (without, ends_before), (noisy, ends_before)):
        build_stochastic_step(config, policy)
    with pytest.raises(UserError, match=r"sampler\.noisy_last_step=true: .*no noise in the last step; use false"):
        build_stochastic_step(noisy, ends_at_image)
