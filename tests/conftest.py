"""Fixtures of the whole suite: tiny model folders, made once; global state as each test found it."""

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs the network; a wrong name fails at once
# On tiny networks a second thread costs more than it brings, and on a busy machine ten times more. Set here, before
# torch is imported, it also holds for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:  # torch takes seconds to import, and the tests of the command line do without
    import torch

    from drift_pl.policies.sd3 import StableDiffusion3Policy


@pytest.fixture(autouse=True, scope="session")
def _own_register(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of the tests are not noted among the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


LORA_TARGETS = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")


@pytest.fixture(autouse=True)
def _global_state_is_restored() -> Iterator[None]:
    """Threads and random states after a test are those before it."""
    if "torch" not in sys.modules:
        yield
        return
    import numpy as np
    import torch

    threads, states = torch.get_num_threads(), (torch.get_rng_state(), np.random.get_state(), random.getstate())
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


def _saved(name: str, factory: pytest.TempPathFactory, save: str) -> Path:
    """Calls `tiny_models.<save>` on a new folder; it seeds the global generator, which is put back."""
    import tiny_models
    import torch

    with torch.random.fork_rng(devices=[]):
        return getattr(tiny_models, save)(factory.mktemp("tiny") / name)


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable-Diffusion-3-format folder."""
    return _saved("pipeline", tmp_path_factory, "save_tiny_pipeline")


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLUX.1-[dev]-format folder."""
    return _saved("flux", tmp_path_factory, "save_tiny_flux")


@pytest.fixture(scope="session")
def tiny_zimage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Z-Image-format folder."""
    return _saved("zimage", tmp_path_factory, "save_tiny_zimage")


@pytest.fixture(scope="session")
def tiny_qwen_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen-Image-format folder."""
    return _saved("qwen_image", tmp_path_factory, "save_tiny_qwen_image")


@pytest.fixture(scope="session")
def tiny_flux2_klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLUX.2-[klein]-format folder of a base model."""
    return _saved("flux2_klein", tmp_path_factory, "save_tiny_flux2_klein")


@pytest.fixture(scope="session")
def tiny_sana(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Sana-format folder."""
    return _saved("sana", tmp_path_factory, "save_tiny_sana")


@pytest.fixture(scope="session")
def tiny_wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Wan-2.1-format folder."""
    return _saved("wan", tmp_path_factory, "save_tiny_wan")


@pytest.fixture(scope="session")
def tiny_unets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> a folder of a UNet model in its format."""
    return {family: _saved(family, tmp_path_factory, f"save_tiny_{family}") for family in ("sd15", "sdxl")}


@pytest.fixture(scope="session")
def tiny_preference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPModel folder in PickScore's format."""
    return _saved("preference", tmp_path_factory, "save_tiny_preference")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2-format folder, for the shaping lever."""
    return _saved("encoder", tmp_path_factory, "save_tiny_encoder")


@pytest.fixture(scope="session")
def tiny_evaluation_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another DINOv2-format folder, for evaluation."""
    import tiny_models
    import torch

    with torch.random.fork_rng(devices=[]):
        return tiny_models.save_tiny_encoder(tmp_path_factory.mktemp("tiny") / "evaluation_encoder", seed=4)


@pytest.fixture(scope="session")
def tiny_lpips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perceptual network in the layout that `LpipsEncoder` loads."""
    return _saved("lpips", tmp_path_factory, "save_tiny_lpips")


@pytest.fixture
def tiny_policy(tiny_pipeline: Path) -> "StableDiffusion3Policy":
    """A fresh policy: tests change the weights of its adapter."""
    from tiny_policies import load_tiny

    return load_tiny("sd3", tiny_pipeline, targets=LORA_TARGETS)


@pytest.fixture
def generator() -> "torch.Generator":
    """A seeded generator for a test's own numbers."""
    import torch

    return torch.Generator().manual_seed(20260112)


@pytest.fixture
def tune() -> Callable[..., None]:
    """A function that moves a policy's adapter away from zero, as some updates would have done."""
    import torch

    def move(policy: "StableDiffusion3Policy", std: float = 0.3) -> None:
        random_numbers = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for name, parameter in policy.trainable_parameters():
                if "lora_B" in name:
                    parameter.add_(std * torch.randn(parameter.shape, generator=random_numbers))

    return move
