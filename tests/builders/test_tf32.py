"""TF32: one setting for products and convolutions of CUDA devices, said at the start, and nothing on a CPU."""

from collections.abc import Iterator

import pytest
import torch

from drift_pl.builders.hardware import choose_device, set_tf32
from drift_pl.builders.overview import tf32_in_words
from drift_pl.config.experiments import list_experiments
from drift_pl.config.identity import config_hash
from drift_pl.config.loading import parse


def flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    products, convolutions = flags()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = products, convolutions


def test_one_setting_is_for_both_and_a_cpu_has_none() -> None:
    """Catches in builders/hardware.py: convolutions left on by `false`; a CPU's products changed."""
    torchs_own = flags()
    assert torchs_own == (False, True)
    assert tf32_in_words() == "TF32 in convolutions"
    for device, tf32 in (("cuda", None), ("cpu", True), ("mps", False)):
        set_tf32(tf32, device)
        assert flags() == torchs_own
    set_tf32(True, "cuda")
    assert flags() == (True, True)
    assert tf32_in_words() == "TF32 in products and convolutions"
    set_tf32(False, "cuda")
    assert flags() == (False, False)
    assert tf32_in_words() == "no TF32"


def test_commands_set_it_and_a_run_is_another_one_with_it() -> None:
    base, other = (parse(["experiment=shapes_div", "trainer.accelerator=cpu", *more]).config
                   for more in ([], ["trainer.tf32=true"]))  # fmt: skip
    choose_device(other)
    assert flags() == (False, True)
    assert config_hash(base) != config_hash(other)


def test_experiments_of_real_models_have_it() -> None:
    for name in list_experiments():
        config = parse([f"experiment={name}"]).config
        assert config.trainer.tf32 is (None if config.policy.pretrained.startswith("pkg:") else True), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_card_rounds_products_as_told() -> None:
    """Against float64: TF32 has 10 bits of mantissa, float32 23."""
    left, right = (torch.rand(512, 512, dtype=torch.float64, device="cuda") for _ in range(2))
    exact, errors = left @ right, {}
    for tf32 in (True, False):
        set_tf32(tf32, "cuda")
        errors[tf32] = float(((left.float() @ right.float()).double() / exact - 1).abs().max())
    assert errors[False] < 1e-5 < errors[True] < 1e-2
