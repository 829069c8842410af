"""Published configurations have as many weights as the files that their authors publish."""

from dataclasses import dataclass

import diffusers
import pytest
import torch
from torch import nn

from drift_pl.builders.planned_source import FAMILIES, text_network, vae_class
from drift_pl.builders.published import GEMMA, PIPELINES, QWEN2_5_VL, QWEN3_4B, QWEN3_8B, T5, UMT5, TextEncoder
from drift_pl.core.registry import TABLES

HEADER = 160_000
"""Most bytes of a model's files that are not weights."""


@dataclass(frozen=True)
class Published:
    """Bytes of a model's files on the Hugging Face hub, or of one file, and of a weight in them.

    Attributes:
        rounded: to the last digit that is given, where the hub's page is the source.
    """

    size: int
    itemsize: int
    rounded: int = 0


DENOISERS = {
    # diffusion_pytorch_model-0000*-of-00002.safetensors, 9,985,185,992 + 6,307,519,304
    "stabilityai/stable-diffusion-3.5-large": Published(16_292_705_296, 2),
    # three files of transformer/, 9,983,040,304 + 9,949,328,904 + 3,870,584,832
    "black-forest-labs/FLUX.1-dev": Published(23_802_954_040, 2),
    "black-forest-labs/FLUX.2-klein-base-4B": Published(7_751_105_712, 2),  # flux-2-klein-base-4b.safetensors
    "Qwen/Qwen-Image": Published(40_860_802_176, 2),  # total_size of the index
    "Tongyi-MAI/Z-Image": Published(12_309_866_400, 2),  # z_image_turbo_bf16.safetensors, the same network
    # transformer/ of Sana_1600M_1024px_BF16_diffusers, 3.21 GB: the same without the small norms of queries and keys
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": Published(3_210_000_000, 2, 5_000_000),
    # diffusion_pytorch_model.safetensors of Wan2.1-T2V-1.3B
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": Published(5_676_070_424, 4),
    # a checkpoint of all its weights in bfloat16, in torch's format, whose own part is larger
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": Published(28_577_335_997, 2, 200_000),
    # three files of Wan2.2-TI2V-5B, 9,825,014,472 + 9,995,661,736 + 178,558,176
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": Published(19_999_234_384, 4),
}
VAES = {
    "black-forest-labs/FLUX.1-dev": Published(167_666_902, 2),  # vae/diffusion_pytorch_model.safetensors
    "black-forest-labs/FLUX.2-klein-base-4B": Published(336_213_556, 4),  # vae/ of FLUX.2-dev, which it shares
    "Qwen/Qwen-Image": Published(253_806_246, 2),  # qwen_image_vae.safetensors
    # vae/ of every Sana, 1.25 GB
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": Published(1_250_000_000, 4, 10_000_000),
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": Published(507_609_880, 4),  # Wan2.1_VAE.pth
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": Published(2_818_839_170, 4),  # Wan2.2_VAE.pth
}
TEXTS: dict[str, tuple[TextEncoder, Published]] = {
    "T5": (T5, Published(9_524_648_352, 2)),  # text_encoder_3/ of Stable Diffusion 3.5, fp16
    "UMT5": (UMT5, Published(11_361_920_418, 2)),  # models_t5_umt5-xxl-enc-bf16.pth
    "Gemma 2 2B": (GEMMA, Published(5_231_000_000, 2, 10_000_000)),  # text_encoder/ of Sana, 4.99 GB + 241 MB
    "Qwen3 4B": (QWEN3_4B, Published(8_044_982_048, 2)),  # qwen_3_4b.safetensors
    "Qwen3 8B": (QWEN3_8B, Published(16_400_000_000, 2, 100_000_000)),  # its card: 8.2 B weights
    "Qwen2.5-VL 7B": (QWEN2_5_VL, Published(16_584_333_312, 2)),  # total_size of the index
}


def check(network: nn.Module, published: Published) -> None:
    weights = {id(each): each for each in network.state_dict(keep_vars=True).values()}
    size = published.itemsize * sum(each.numel() for each in weights.values())
    assert size <= published.size + published.rounded
    assert size >= published.size - HEADER - published.rounded


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoiser_has_the_weights_of_its_files(name: str) -> None:
    """Catches in builders/published.py: a layer too few; another width of a feed-forward part, or of a text's token."""
    pipeline = PIPELINES[name]
    with torch.device("meta"):
        network = getattr(diffusers, pipeline.denoiser).from_config(pipeline.config)
    check(network, DENOISERS[name])


@pytest.mark.parametrize("name", VAES)
def test_an_autoencoder_has_the_weights_of_its_file(name: str) -> None:
    pipeline = PIPELINES[name]
    with torch.device("meta"):
        network = getattr(diffusers, vae_class(pipeline)).from_config(pipeline.vae)
    check(network, VAES[name])


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_encoder_has_the_weights_of_its_files(name: str) -> None:
    encoder, published = TEXTS[name]
    with torch.device("meta"):
        network = text_network(encoder)
    check(network, published)


def test_every_published_model_is_of_a_family() -> None:
    assert {FAMILIES[pipeline.denoiser] for pipeline in PIPELINES.values()} <= set(TABLES["family"])
