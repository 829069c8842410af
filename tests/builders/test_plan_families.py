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
from drift_pl.config.loading import parse
from drift_pl.policies.hollow import text_shape
from drift_pl.policies.pipeline import PipelinePolicy

FAMILIES = ["flux", "zimage", "qwen_image", "flux2_klein", "sana", "wan"]

pytestmark = pytest.mark.filterwarnings("ignore:unknown to the model's tokenizer")


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
