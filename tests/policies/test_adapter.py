"""A warm start, a scaled adapter, another resolution: against diffusers' own loading and hand-made sums."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from diffusers.training_utils import _collate_lora_metadata
from peft import get_peft_model_state_dict
from tiny_policies import load_tiny
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.rollout import Sampler, sample_ode

TARGETS = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")


def make_policy(folder: Path, **changes: object) -> StableDiffusion3Policy:
    return load_tiny(StableDiffusion3Policy, folder, **{"targets": TARGETS} | changes)


def save(policy: StableDiffusion3Policy, folder: Path) -> Path:
    """As any diffusers training script stores a LoRA, its alpha in the file's header."""
    network = policy.network
    StableDiffusion3Pipeline.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(network),
        **_collate_lora_metadata({"transformer": network}),
    )
    return folder


def sample(policy: StableDiffusion3Policy, side: int = 8) -> Tensor:
    noise = torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(1))
    sampler = Sampler(policy.sigmas(3), 1.0, policy.encode([""], negative=True))
    return policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(["a cat", "sky"]))))


@pytest.fixture
def lora(tiny_policy: StableDiffusion3Policy, tune: Callable[..., None], tmp_path: Path) -> Path:
    tune(tiny_policy)
    return save(tiny_policy, tmp_path / "lora")


def test_the_reference_nests(tiny_policy: StableDiffusion3Policy, tune: Callable[..., None]) -> None:
    """Guidance that mixes the base in asks for the reference while the base itself is evaluated.

    Catches in policies/lora.py: switching the adapter off does not nest.
    """
    base = sample(tiny_policy)
    tune(tiny_policy)
    tuned = sample(tiny_policy)
    with tiny_policy.reference():
        with tiny_policy.reference():
            assert torch.equal(sample(tiny_policy), base)
        assert torch.equal(sample(tiny_policy), base)
    assert torch.equal(sample(tiny_policy), tuned)
    assert not torch.equal(tuned, base)


def test_a_warm_start_is_the_adapter_that_was_saved(
    tiny_policy: StableDiffusion3Policy, tiny_pipeline: Path, lora: Path
) -> None:
    """And what diffusers itself makes of the file; the reference stays the bare model.

    Catches in policies/lora.py: a warm start ignored; the file's alpha ignored.
    """
    warm = make_policy(tiny_pipeline, warm_start=str(lora), seed=9)
    for (name, ours), (_, theirs) in zip(warm.trainable_parameters(), tiny_policy.trainable_parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    assert torch.equal(sample(warm), sample(tiny_policy))
    stock = make_policy(tiny_pipeline)
    stock.network.delete_adapters("default")
    stock.pipeline.load_lora_weights(lora)
    torch.testing.assert_close(sample(warm), sample(stock), rtol=0, atol=1e-6)  # float32 sums of another module order
    fresh = make_policy(tiny_pipeline)
    with warm.reference():
        assert torch.equal(sample(warm), sample(fresh))
    assert all(parameter.requires_grad for _, parameter in warm.trainable_parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 2}, r"rank is 4 and its alpha 8; set policy\.lora\.rank=4 policy\.lora\.alpha=8"),
        ({"alpha": 4}, r"set policy\.lora\.rank=4 policy\.lora\.alpha=8"),
        ({"targets": TARGETS[:2]}, r"adapts other layers than policy\.lora\.targets, e\.g\. transformer_blocks\.0"),
    ],
)
def test_an_adapter_of_another_shape_is_refused(
    tiny_pipeline: Path, lora: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_policy(tiny_pipeline, warm_start=str(lora), **changes)


def test_a_folder_without_a_lora_is_refused(tiny_pipeline: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"policy\.lora\.pretrained=.*: cannot be loaded"):
        make_policy(tiny_pipeline, warm_start=str(tmp_path))


def test_a_scaled_adapter_is_the_base_plus_so_much_of_it(
    tiny_policy: StableDiffusion3Policy, tune: Callable[..., None], generator: torch.Generator
) -> None:
    tune(tiny_policy)
    layer = tiny_policy.network.transformer_blocks[0].attn.to_k
    x = torch.randn(5, layer.in_features, generator=generator)
    base, whole = layer.base_layer(x), layer(x)
    with tiny_policy.adapter_scale(0.25):
        torch.testing.assert_close(layer(x), base + 0.25 * (whole - base))
    with tiny_policy.adapter_scale(0.0), tiny_policy.reference():
        nothing = sample(tiny_policy)
    with tiny_policy.adapter_scale(0.0):
        torch.testing.assert_close(sample(tiny_policy), nothing)
    assert torch.equal(layer(x), whole)
    assert all(parameter.requires_grad for _, parameter in tiny_policy.trainable_parameters())


def test_another_resolution_holds_within_its_context_only(tiny_policy: StableDiffusion3Policy) -> None:
    """Catches in policies/pipeline.py: evaluation's resolution not put back."""
    with tiny_policy.at_resolution(8):
        assert tiny_policy.latent_shape == (4, 4, 4)
        assert sample(tiny_policy, 4).shape == (2, 3, 8, 8)
    with tiny_policy.at_resolution(None):
        assert tiny_policy.latent_shape == (4, 8, 8)
    assert tiny_policy.latent_shape == (4, 8, 8)


@pytest.mark.parametrize(("side", "message"), [(10, "=10 is not a multiple of 4: use e.g. 8"), (36, "use at most 32")])
def test_a_resolution_that_the_model_cannot_make_is_refused(
    tiny_policy: StableDiffusion3Policy, side: int, message: str
) -> None:
    with pytest.raises(UserError, match=f"evaluation.resolution.*{message}"), tiny_policy.at_resolution(side):
        pass
