"""Frozen weights in float8: the layer against rounding by hand, what is stored so, equal runs, exports, the plan."""

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TinyWorld, assert_same_training_state
from safetensors.torch import load_file
from tiny_policies import load_tiny
from torch import nn

from drift_pl import export
from drift_pl.builders.hardware import refuse_storage
from drift_pl.builders.planning import plan_of
from drift_pl.config.loading import parse
from drift_pl.core.errors import UserError
from drift_pl.policies.storage import LARGEST, STORED, NarrowLinear, narrow

FP8 = "policy.storage=fp8"


class Block(nn.Module):
    """A block with a layer that is stored, and one that diffusers leaves as it is."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.to_q, self.norm1 = nn.Linear(8, 6, dtype=dtype), nn.Linear(6, 6, dtype=dtype)
        self.requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stored_layer_is_one_whose_weights_were_rounded(dtype: torch.dtype) -> None:
    """Bit for bit, output and gradient, against torch's own layer with weights rounded to float8 and back.

    Catches in policies/storage.py: the gradient of the product with W in place of its transpose.
    """
    block, plain = Block(dtype), nn.Linear(8, 6, dtype=dtype).requires_grad_(False)
    plain.weight.copy_(block.to_q.weight.to(torch.float8_e4m3fn).to(dtype))
    plain.bias.copy_(block.to_q.bias)
    narrow(block, [block])
    assert isinstance(block.to_q, NarrowLinear)
    assert type(block.norm1) is nn.Linear
    rows_BI = torch.randn(3, 8, dtype=dtype)
    found = []
    for layer in (block.to_q, plain):
        given = rows_BI.clone().requires_grad_()
        out = layer(given)
        out.square().sum().backward()
        found.append((out.detach(), given.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_the_backward_pass_keeps_no_widened_weights() -> None:
    """What diffusers' own casting would do. Catches in policies/storage.py: the widened weight is saved."""
    block, saved = Block(torch.float32), []
    narrow(block, [block])
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        block.to_q(torch.randn(3, 8, requires_grad=True))
    assert [tensor.dtype for tensor in saved] == [STORED]


def test_a_weight_beyond_float8_is_refused() -> None:
    """It would be NaN. Catches in policies/storage.py: no look at the range."""
    block = Block(torch.float32)
    block.to_q.weight.data[0, 0] = LARGEST + 1
    with pytest.raises(UserError, match=r"^policy\.storage=fp8: a weight of to_q is beyond float8's range"):
        narrow(block, [block])
    empty = nn.Sequential(nn.Conv2d(1, 1, 1))
    with pytest.raises(UserError, match="has no linear layer to store"):
        narrow(empty, [empty])


@pytest.mark.parametrize("family", ["sd3", "flux", "zimage", "qwen_image", "flux2_klein", "sana", "sd15", "sdxl"])
def test_every_family_computes_with_frozen_weights_in_float8(family: str, request: pytest.FixtureRequest) -> None:
    """The adapter is float32 and gets a gradient, inputs keep the dtype of the weights, two passes are equal.

    Catches in policies/storage.py: the adapter stored as well; layers outside of the blocks stored.
    """
    fixtures = {"sd3": "tiny_pipeline", "sd15": "tiny_unets", "sdxl": "tiny_unets"}
    folder = request.getfixturevalue(fixtures.get(family, f"tiny_{family}"))
    folder = folder[family] if isinstance(folder, dict) else folder
    policy = load_tiny(family, folder, storage="fp8", resolution=64 if family == "zimage" else None)
    dtypes = {parameter.dtype for _, parameter in policy.trainable_parameters()}
    stored = [layer for layer in policy.network.modules() if isinstance(layer, NarrowLinear)]
    assert dtypes == {torch.float32}
    assert stored
    assert {layer.weight.dtype for layer in stored} == {STORED}
    assert policy.dtype == torch.float32
    scale = 1.0 if family == "flux" else 3.0
    condition, negative = policy.encode(["a red dot"]), policy.encode([""], negative=True)
    given = (torch.randn(1, *policy.latent_shape), policy.sigmas(4)[1], condition, negative, scale)
    first, second = policy.predict(*given), policy.predict(*given)
    assert torch.equal(first, second)
    assert first.isfinite().all()
    first.square().mean().backward()
    assert all(parameter.grad is not None for _, parameter in policy.trainable_parameters())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return TinyWorld.create(tmp_path_factory.mktemp("world"))


def test_a_run_starts_at_ratio_one_resumes_and_exports_what_it_trained(world: TinyWorld, tmp_path: Path) -> None:
    """Catches in builders/policy.py: the setting not passed on. Catches in export.py: the rounded base merged."""
    sizes = ["evaluation.max_prompts=1", "trainer.logger=[csv]", FP8]
    whole = world.fit(tmp_path / "whole", *sizes, "trainer.iterations=2")
    text = (tmp_path / "whole" / "csv" / "metrics.csv").read_text().splitlines()
    column = text[0].split(",").index("policy/ratio_deviation_first")
    assert {float(row.split(",")[column]) for row in text[1:] if row.split(",")[column]} == {0.0}
    world.fit(tmp_path / "run", *sizes, "trainer.iterations=1")
    resumed = world.fit(tmp_path / "run", *sizes, "trainer.iterations=2", "ckpt_path=last")
    assert_same_training_state(resumed, whole)
    plain = world.fit(tmp_path / "plain", *sizes[:-1], "trainer.iterations=2")
    weights: dict[str, Any] = whole["state_dict"]
    assert any(not torch.equal(value, plain["state_dict"][name]) for name, value in weights.items() if "lora_B" in name)
    assert export.main([f"ckpt_path={tmp_path}/whole", f"out={tmp_path}/full", "format=full", "weights=live"]) == 0
    merged = load_file(tmp_path / "full" / "transformer" / "diffusion_pytorch_model.safetensors")
    base = load_file(world.root / "pipeline" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {name: value.dtype for name, value in merged.items()} == {name: value.dtype for name, value in base.items()}
    untouched = "transformer_blocks.0.ff.net.2.weight"
    assert torch.equal(merged[untouched], base[untouched])


def test_plan_counts_a_byte_per_stored_weight(world: TinyWorld) -> None:
    """Catches in builders/planned_model.py: frozen bytes of the loaded dtype."""
    argv = [*world.overrides(), "policy.max_sequence_length=0"]
    wide, stored = (plan_of(parse([*argv, *more]).config).model for more in ([], [FP8]))
    policy = load_tiny("sd3", world.root / "pipeline", storage="fp8")
    narrowed = sum(layer.weight.numel() for layer in policy.network.modules() if isinstance(layer, NarrowLinear))
    assert wide.frozen - stored.frozen == 3 * narrowed
    assert wide.parameters == stored.parameters


def test_what_cannot_be_stored_so_is_refused() -> None:
    with pytest.raises(UserError, match=r"^policy\.storage=fp8 is for frozen weights, and policy\.tuning=full"):
        parse([FP8, "policy.tuning=full"])
    with pytest.raises(UserError, match=r"^policy\.storage=fp8: policy\.quantisation=bitsandbytes_8bit stores"):
        parse([FP8, "policy.quantisation=bitsandbytes_8bit"])
    with pytest.raises(UserError, match=r"^policy\.storage=fp8 is for CUDA devices and CPUs.* mps"):
        refuse_storage("fp8", "mps")
