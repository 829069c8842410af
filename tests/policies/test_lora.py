"""The adapter on a small network, against the formula W + alpha / rank * B A."""

import pytest
import torch
from diffusers import SD3Transformer2DModel
from tiny_policies import load_tiny

from drift_pl.core.errors import UserError
from drift_pl.policies.lora import attach_lora, trainable_parameters


def small_network() -> SD3Transformer2DModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return SD3Transformer2DModel(
            sample_size=4,
            in_channels=2,
            out_channels=2,
            num_layers=1,
            attention_head_dim=4,
            num_attention_heads=1,
            joint_attention_dim=4,
            caption_projection_dim=4,
            pooled_projection_dim=4,
            pos_embed_max_size=4,
        )


def test_a_partly_wrong_target_is_refused_by_name() -> None:
    """Catches in policies/lora.py: partly wrong LoRA targets accepted."""
    network = small_network()
    with pytest.raises(UserError, match=r"policy\.lora\.targets: attn\.to_qq match no layer; the model has e\.g\. "):
        attach_lora(network, 2, 4, ["attn.to_qq", "attn.to_k"], seed=0)
    assert all("lora" not in name for name, _ in network.named_parameters())


def test_the_layers_that_match_are_those_that_train() -> None:
    network = small_network()
    attach_lora(network, 2, 4, ["attn.to_k"], seed=0)
    names = [name for name, _ in trainable_parameters(network)]
    assert names == [f"transformer_blocks.0.attn.to_k.lora_{part}.default.weight" for part in "AB"]


def test_the_adapter_adds_alpha_over_rank_times_b_a(generator: torch.Generator) -> None:
    network = small_network()
    attach_lora(network, 2, 6, ["attn.to_k"], seed=0)
    layer = network.transformer_blocks[0].attn.to_k
    down, up = (dict(trainable_parameters(network))[name] for name in [n for n, _ in trainable_parameters(network)])
    with torch.no_grad():
        up.copy_(torch.randn(up.shape, generator=generator))
        x = torch.randn(5, 4, generator=generator)
        expected = layer.base_layer(x) + 6 / 2 * x @ down.T @ up.T
        torch.testing.assert_close(layer(x), expected)


def test_initial_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone() -> None:
    """Catches in policies/lora.py: adapter's initial weights drawn from the global generator."""

    def weights(seed: int) -> list[torch.Tensor]:
        network = small_network()
        before = torch.get_rng_state()
        attach_lora(network, 2, 4, ["attn.to_k"], seed)
        assert torch.equal(torch.get_rng_state(), before)
        return [parameter.detach().clone() for _, parameter in trainable_parameters(network)]

    first = weights(1)
    torch.rand(7)  # the global generator moves on
    again, other = weights(1), weights(2)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not first[1].any()  # B starts at zero


def test_making_and_using_a_policy_draws_nothing_from_the_global_generator(tiny_pipeline: object) -> None:
    before = torch.get_rng_state()
    policy = load_tiny("sd3", str(tiny_pipeline), targets=["attn.to_q"])
    policy.encode(["a cat"])
    policy.decode(torch.zeros(1, *policy.latent_shape))
    assert torch.equal(torch.get_rng_state(), before)
