"""What `plan` counts for the families of this package: passes of tiny folders, against torch's counter of real ones."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from tiny_policies import LENGTHS, TARGETS, load_tiny
from torch.utils.flop_counter import FlopCounterMode
from transformers import Gemma2Config

from drift_pl import plan as command
from drift_pl.builders.planned_model import Model, model_of
from drift_pl.builders.planning import plan_of
from drift_pl.builders.policy import build_policy
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.policies.hollow import text_shape
from drift_pl.policies.pipeline import PipelinePolicy

FAMILIES = ["flux", "zimage", "qwen_image", "flux2_klein", "sana", "wan"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:unknown to the model's tokenizer"),
    pytest.mark.filterwarnings("ignore:without effect"),
]


def attention(query: Any, key: Any, *_: Any, **__: Any) -> int:
    """Two products of a matrix of queries by keys: the counter does not know the CPU's kernel."""
    return 4 * prod(query) * key[-2]


KERNEL = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}


def counted(family: str, folder: Path, *settings: str) -> Model:
    lora = f"policy.lora.targets=[{','.join(TARGETS)}]"
    video = ["policy.frames=5"] if family == "wan" else []
    sizes = ["policy.resolution=16", f"policy.max_sequence_length={LENGTHS[family]}", "policy.guidance_scale=4.5"]
    model = [f"policy.family={family}", f"policy.pretrained={folder}", "policy.lora.rank=4", lora]
    return model_of(parse(["experiment=shapes_flowgrpo", *model, *sizes, *video, *settings]).config)


def flops_of(policy: PipelinePolicy) -> tuple[int, int, int]:
    """Of a guided prediction under a text as long as a text may be, of decoding, and the numbers of the picture."""
    condition, negative = (
        replace(given, num_tokens_B=given.num_tokens_B and torch.tensor([policy.max_sequence_length]))
        for given in (policy.encode(["a red cat"]), policy.encode([""], negative=True))
    )
    latents = torch.randn(1, *policy.latent_shape)
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=KERNEL) as passes:
        policy.predict(latents, torch.tensor(0.5), condition, negative, 4.5)
    with FlopCounterMode(display=False, custom_mapping=KERNEL) as decoding:
        picture = policy.decode(latents)
    return passes.get_total_flops(), decoding.get_total_flops(), picture.numel()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_counts_as_it_is_computed(family: str, request: pytest.FixtureRequest) -> None:
    """Catches in policies/hollow.py: texts of one token.

    Catches in builders/planned_model.py: a video counted as one frame.
    """
    folder = request.getfixturevalue(f"tiny_{family}")
    found, policy = counted(family, folder), load_tiny(family, folder, resolution=16)
    sample, decode, pixels = flops_of(policy)
    assert (found.sample.flops, found.decode.flops, found.pixels) == (sample, decode, pixels)
    assert found.trained == sum(each.numel() for _, each in policy.trainable_parameters())
    assert found.update.flops > 2 * sample
    assert found.latent == prod(policy.latent_shape)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["policy.pretrained=Qwen/Qwen-Image"],
            "policy.pretrained=Qwen/Qwen-Image is of policy.family=qwen_image, not sd3",
        ),
        (
            ["policy.family=flux2_klein", "policy.pretrained=black-forest-labs/FLUX.2-klein-4B"],
            "policy.guidance_scale=4.0: this model is distilled and takes no guidance",
        ),
    ],
)
def test_a_published_model_is_refused_as_its_folder_is(
    settings: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches in builders/planned_source.py: a model of another family counted; a distilled model taken for a base."""
    assert command.main(["experiment=shapes_flowgrpo", "policy.guidance_scale=4", *settings]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}")
    assert error.count("\n") == 1


def test_the_size_of_an_image_may_be_the_models_own(tiny_flux: Path) -> None:
    """FLUX's is in no configuration, but in its pipeline.

    Catches in policies/hollow.py: a pipeline without it.
    """
    found = counted("flux", tiny_flux, "policy.resolution=null")
    assert found.latent == prod(load_tiny("flux", tiny_flux, resolution=None).latent_shape)


def test_sanas_texts_have_their_own_width() -> None:
    """Gemma 2 2B's 2,304 channels; 2,240 are those of the cross-attention.

    Catches in policies/hollow.py: the width of the cross-attention as that of the texts.
    """
    with torch.device("meta"):
        network = diffusers.SanaTransformer2DModel()
    assert text_shape("sana", network.config, 300, 77) == (300, Gemma2Config().hidden_size, 0)


LOUDER = "policy.family=my_family:Louder"
"""A variant of sd3 without T5 whose constructor takes `gain`, and no `max_sequence_length`."""


@pytest.fixture
def my_family_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "extending"))


@pytest.mark.usefixtures("my_family_can_be_imported")
@pytest.mark.parametrize("model", ["pkg:drift_pl.builtin/weights/pipeline", "stabilityai/stable-diffusion-3.5-medium"])
def test_a_family_of_ones_own_counts_as_the_one_that_it_comes_from(model: str) -> None:
    """Catches in builders/planned_model.py: a constructor without `policy.args`.

    Catches in policies/hollow.py: arguments that a constructor does not name; the texts of another family.
    Catches in builders/planned_source.py: a published model refused, as another family's.
    """
    settings = ["experiment=shapes_flowgrpo", f"policy.pretrained={model}"]
    found = model_of(parse([*settings, LOUDER, "policy.args={gain: 1.2}"]).config)
    expected = model_of(parse([*settings, "policy.max_sequence_length=0"]).config)
    for name in ("sample", "update", "decode"):
        assert getattr(found, name).flops == getattr(expected, name).flops
    same = {"sample": expected.sample, "update": expected.update, "decode": expected.decode}  # a product more
    assert replace(found, **same) == expected


@pytest.mark.usefixtures("my_family_can_be_imported")
def test_what_a_family_of_ones_own_does_not_take_saves_no_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """Its text encoders stay where they are, and nobody is advised to move them.

    Catches in builders/planned_model.py: `policy.text_encoder_device` of a constructor that does not name it.
    Catches in builders/planning.py: `policy.offload` of one.
    Catches in plan.py: warnings of settings that are only tried.
    """
    model = ["policy.pretrained=stabilityai/stable-diffusion-3.5-medium", "experiment=shapes_flowgrpo"]
    settings = [*model, LOUDER, "policy.args={gain: 1.2}"]
    assert command.main([*settings, "device=1GB"]) == 0
    printed = capsys.readouterr()
    assert "no change of the memory settings makes it fit" in printed.out
    assert "policy.offload" not in printed.err
    moved = ["policy.text_encoder_device=cpu", "policy.offload=true"]
    theirs = plan_of(parse([*settings, *moved]).config)
    assert {"autoencoder, float32", "text encoders"} <= theirs.parts.keys()
    ours = plan_of(parse([*model, *moved]).config)
    assert not {"autoencoder, float32", "text encoders"} & ours.parts.keys()
    assert ours.phases["decode"] - theirs.phases["decode"] == theirs.parts["autoencoder, float32"]


@pytest.mark.usefixtures("my_family_can_be_imported")
@pytest.mark.parametrize("args", ["{}", "{gian: 1.2}", "{gain: loud}"])
def test_arguments_that_a_family_does_not_take_are_refused_as_fit_refuses_them(
    args: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["experiment=shapes_flowgrpo", LOUDER, f"policy.args={args}"]
    with pytest.raises(UserError, match=r"^policy\.args.* 'my_family:Louder'") as refused:
        build_policy(parse(settings).config)
    assert command.main(settings) == 2
    assert capsys.readouterr().err == f"error: {refused.value}\n"
