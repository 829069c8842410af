"""Full fine-tuning: the reference is what was loaded, bit for bit, and everything of the denoiser trains."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_policies import load_tiny
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.rng import sample_generators
from drift_pl.functional.losses import gaussian_kl
from drift_pl.incentive.prompting import VariedCondition
from drift_pl.policies.full import FullTuning
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.rollout import ReplayedStep, Sampler, replay, rollout, sample_ode
from drift_pl.sampling.stochastic import FlowSde
from drift_pl.training.ema import ParameterAverage

PROMPTS = ["a red cat", "sky"]


def make_policy(folder: Path, tuning: str = "full", **changes: object) -> StableDiffusion3Policy:
    return load_tiny(StableDiffusion3Policy, folder, tuning=tuning, **{"targets": ["attn.to_q"]} | changes)


@pytest.fixture
def policy(tiny_pipeline: Path) -> StableDiffusion3Policy:
    return make_policy(tiny_pipeline)


def images(policy: StableDiffusion3Policy) -> Tensor:
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    sampler = Sampler(policy.sigmas(3), 1.0, policy.encode([""], negative=True))
    return policy.decode(sample_ode(policy, sampler, noise, VariedCondition(policy.encode(PROMPTS))))


def train(policy: StableDiffusion3Policy, steps: int = 2) -> None:
    """Some optimiser steps on any loss; AdamW, as runs take them."""
    condition = policy.encode(PROMPTS)
    latents = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.AdamW([parameter for _, parameter in policy.trainable_parameters()], lr=0.02)
    for _ in range(steps):
        policy.predict(latents, torch.tensor(0.6), condition, condition[:1], 1.0).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def first_step(policy: StableDiffusion3Policy) -> tuple[ReplayedStep, Tensor]:
    """The first trained step of a rollout, replayed with its reference, and the rollout's log-probabilities."""
    condition = VariedCondition(policy.encode(PROMPTS))
    sampler = Sampler(policy.sigmas(4), 1.5, policy.encode([""], negative=True), FlowSde(0.7))
    noise = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(3))
    generators = sample_generators("test", 0, samples=range(2))
    trajectory = rollout(policy, sampler, condition, (1, 2), noise, generators)
    return replay(policy, sampler, trajectory, 0, torch.arange(2), condition, True), trajectory.log_prob_KB[0]


@pytest.mark.parametrize("reference_device", ["device", "cpu"])
def test_the_reference_is_the_untouched_pipeline_bit_for_bit(tiny_pipeline: Path, reference_device: str) -> None:
    """Catches in policies/full.py: reference is a copy of the weights at the first use; weights not put back; not told
    that they changed; the copy is part of the network.
    """
    policy, untouched = (make_policy(tiny_pipeline, reference_device=reference_device) for _ in range(2))
    base = images(untouched)
    assert torch.equal(images(policy), base)
    train(policy)
    tuned = images(policy)
    assert (tuned - base).abs().max() > 0.01
    for _ in range(2):
        with policy.reference():
            assert torch.equal(images(policy), base)
            with policy.reference():  # it nests
                assert torch.equal(images(policy), base)
            assert torch.equal(images(policy), base)
        assert torch.equal(images(policy), tuned)
    train(policy)
    with policy.reference():
        assert torch.equal(images(policy), base)
    with pytest.raises(ZeroDivisionError), policy.reference():
        _ = 1 / 0
    assert not torch.equal(images(policy), base)


def test_full_and_adapter_start_from_the_same_model(tiny_pipeline: Path, policy: StableDiffusion3Policy) -> None:
    assert torch.equal(images(policy), images(make_policy(tiny_pipeline, "lora")))


def test_before_the_first_update_the_ratio_is_one_and_the_divergence_zero(policy: StableDiffusion3Policy) -> None:
    """And both move with the first update; the reference's mean then is the untouched model's."""
    step, old_log_prob_B = first_step(policy)
    assert torch.equal(step.log_prob_B, old_log_prob_B)
    assert step.reference_mean_BCHW is not None
    assert not gaussian_kl(step.mean_BCHW, step.reference_mean_BCHW, step.std).any()
    before = step.mean_BCHW.detach()
    train(policy, 1)
    after, _ = first_step(policy)
    assert (gaussian_kl(after.mean_BCHW, after.reference_mean_BCHW, after.std) > 0).all()
    assert not torch.equal(after.mean_BCHW, before)


def test_a_restored_run_has_the_same_reference(tiny_pipeline: Path, policy: StableDiffusion3Policy) -> None:
    """Weights are copied in by load_state_dict, as Lightning does, or one by one, as the commands do."""
    base = images(policy)
    train(policy)
    trained = {name: value.clone() for name, value in policy.network.state_dict().items()}
    resumed, loaded = make_policy(tiny_pipeline), make_policy(tiny_pipeline)
    resumed.network.load_state_dict(trained)
    with torch.no_grad():
        for name, parameter in loaded.trainable_parameters():
            parameter.copy_(trained[name])
    for other in (resumed, loaded):
        assert torch.equal(images(other), images(policy))
        with other.reference():
            assert torch.equal(images(other), base)


def test_gradients_reach_exactly_the_denoisers_parameters(policy: StableDiffusion3Policy) -> None:
    """The reference asked for in between, as a KL term does."""
    train(policy, 1)
    step, _ = first_step(policy)
    step.log_prob_B.sum().backward()
    names = [name for name, _ in policy.trainable_parameters()]
    assert names == [name for name, _ in policy.network.named_parameters()]
    assert all(parameter.grad is not None for _, parameter in policy.trainable_parameters())
    zero = [name for name, parameter in policy.trainable_parameters() if not parameter.grad.any()]
    # the last block has no output for the text: what asks, in its attention, does not count
    assert all("add_q_proj" in name or "norm_added_q" in name for name in zero), zero
    frozen = [policy.pipeline.vae, policy.pipeline.text_encoder, policy.pipeline.text_encoder_2]
    others = [parameter for part in frozen for parameter in part.parameters()]
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in others)


def test_the_copy_is_read_when_it_is_first_needed_and_is_no_part_of_a_module(
    policy: StableDiffusion3Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in training/ema.py: an average equal to the weights is written over them, and the reference is read for
    nothing.
    """
    adapter, reads = policy.adapter, []
    load = adapter._load_original
    monkeypatch.setattr(adapter, "_load_original", lambda: reads.append(1) or load())
    size = sum(parameter.numel() for parameter in policy.network.parameters())
    policy.network.to(torch.float64).to(torch.float32)  # as a move to a device: no change of a value in place
    average = ParameterAverage(policy.trainable_parameters(), 0.5)
    with average.swapped_in(), policy.reference(), policy.adapter_scale(0.5):
        images(policy)
    train(policy)
    assert not reads, "an untouched network is its own reference, and training needs none"
    with policy.reference():
        pass
    with policy.adapter_scale(0.5), policy.reference():
        pass
    assert reads == [1]
    assert sum(parameter.numel() for parameter in policy.network.parameters()) == size
    assert not any(tensor.requires_grad for tensor in adapter._original.values())


def test_reading_the_copy_draws_nothing_from_the_global_generator(policy: StableDiffusion3Policy) -> None:
    """Catches in policies/full.py: reading the reference draws from the global generator."""
    train(policy, 1)
    before = torch.get_rng_state()
    with policy.reference():
        pass
    assert torch.equal(torch.get_rng_state(), before)


def test_a_scale_is_a_place_on_the_line_between_the_models(tiny_pipeline: Path, policy: StableDiffusion3Policy) -> None:
    """Weights reference + s (tuned - reference); within it the reference is still the reference.

    Catches in policies/full.py: interpolated from the wrong end.
    """
    base = {name: parameter.detach().clone() for name, parameter in policy.network.named_parameters()}
    base_images = images(policy)
    train(policy)
    tuned = {name: parameter.detach().clone() for name, parameter in policy.network.named_parameters()}
    for scale in (0.25, 1.5):
        with policy.adapter_scale(scale):
            for name, parameter in policy.network.named_parameters():
                expected = base[name] + scale * (tuned[name] - base[name])
                torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)  # one rounding more
            with policy.reference():
                assert torch.equal(images(policy), base_images)
    with policy.adapter_scale(0):
        assert torch.equal(images(policy), base_images)
    with policy.adapter_scale(1):
        assert all(torch.equal(parameter, tuned[name]) for name, parameter in policy.network.named_parameters())
    assert all(torch.equal(parameter, tuned[name]) for name, parameter in policy.network.named_parameters())


def test_weights_train_in_float32_and_the_reference_keeps_the_stored_numbers(tiny_pipeline: Path) -> None:
    """Stored in half precision: an update of 1e-5 of a weight must not be lost, and the base is what was stored.

    Catches in policies/full.py: trained in the stored half precision; reference read in another than it was stored in.
    """

    class Halved(StableDiffusion3Policy):
        @classmethod
        def prepare(cls, pipeline: Any) -> Any:
            pipeline.transformer.to(torch.bfloat16)
            return pipeline

    policy = load_tiny(Halved, tiny_pipeline, tuning="full")
    assert {parameter.dtype for parameter in policy.network.parameters()} == {torch.float32}
    base = images(policy)
    train(policy, 1)
    with policy.reference():
        assert torch.equal(images(policy), base)


def test_quantised_weights_are_refused() -> None:
    network = torch.nn.Linear(2, 2)
    network.is_quantized = True
    with pytest.raises(UserError, match=r"^policy\.tuning=full: quantised weights do not train: use policy\.t"):
        FullTuning(network, dict)


def test_a_base_model_that_is_gone_is_named(tiny_pipeline: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_pipeline, folder)
    policy = make_policy(folder)
    train(policy, 1)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"^policy\.pretrained=.*does not exist"), policy.reference():
        pass
