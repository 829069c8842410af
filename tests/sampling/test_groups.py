"""The groups of an iteration: windows, shared prefixes, what is kept of a rollout."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drift_pl.core.prompt_batch import PromptBatch, Split
from drift_pl.core.rng import make_generator
from drift_pl.functional.transition import flow_ode_step
from drift_pl.incentive.prompting import EmbeddingNoise, PromptingRule, VariedCondition
from drift_pl.incentive.variants import TextVariants
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.groups import GroupSampling, RolloutPlan, Window
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.stochastic import FlowSde

CPU = torch.device("cpu")
PLAN = RolloutPlan(5, FlowSde(0.7), 1.0, "", Window(1, 4, 2))
BATCH = PromptBatch(seed=7, iteration=3, prompts=("a red cat", "sky"), groups=(2, 5), group_size=3)


def make_sampling(policy: StableDiffusion3Policy, plan: RolloutPlan = PLAN, **changes: object) -> GroupSampling:
    sampling = GroupSampling(policy, PromptEncoder(policy), PromptingRule(), plan, micro_batch=2)
    return replace(sampling, **changes)


def test_images_of_a_group_share_neither_noise_nor_images(tiny_policy: StableDiffusion3Policy) -> None:
    condition, trajectory = make_sampling(tiny_policy)(BATCH, CPU)
    assert len(condition) == len(trajectory.images_B3HW) == 6
    flat = trajectory.images_B3HW.flatten(1)
    assert float(torch.pdist(flat).min()) > 1e-2


def test_micro_batches_change_nothing(tiny_policy: StableDiffusion3Policy, tune: Callable[..., None]) -> None:
    """Up to float32 sums: batches of one take another matrix product.

    Catches in sampling/groups.py: micro-batches reuse the first generators.
    """
    tune(tiny_policy)
    rule, plan = EmbeddingNoise(0.5, 0.0, 0.1), replace(PLAN, guidance_scale=4.5)
    _, together = make_sampling(tiny_policy, plan, prompting=rule, micro_batch=6)(BATCH, CPU)
    for micro_batch in (1, 4):
        shown: list[Tensor] = []
        _, parts = make_sampling(tiny_policy, plan, prompting=rule, micro_batch=micro_batch)(BATCH, CPU, shown.append)
        assert (parts.steps_K, parts.num_steps) == (together.steps_K, 5)
        for name in ("latents_KBCHW", "log_prob_KB", "images_B3HW"):
            torch.testing.assert_close(getattr(parts, name), getattr(together, name), rtol=0, atol=1e-5)
        assert torch.equal(torch.cat(shown), parts.images_B3HW)


def test_a_sliding_window_moves_with_the_iteration_and_a_random_one_is_drawn(
    tiny_policy: StableDiffusion3Policy,
) -> None:
    """Catches in sampling/groups.py: the window drawn once and for all.
    Catches: another SDE window on every process.
    """
    sliding = Window(1, 4, 2, "sliding", stride=1, every=2)
    assert [sliding.steps(7, iteration) for iteration in range(6)] == [(1, 2)] * 2 + [(2, 3)] * 2 + [(1, 2)] * 2
    assert {PLAN.window.steps(7, iteration) for iteration in range(20)} == {(1, 2), (2, 3)}
    _, trajectory = make_sampling(tiny_policy, replace(PLAN, window=sliding))(replace(BATCH, iteration=2), CPU)
    assert trajectory.steps_K == (2, 3)


def ode_by_hand(policy: StableDiffusion3Policy, noise: Tensor, prompt: str, steps: int) -> Tensor:
    sigmas, condition = policy.sigmas(PLAN.steps), policy.encode([prompt])
    with torch.no_grad():
        for step in range(steps):
            velocity = policy.predict(noise, sigmas[step], condition, condition, 1.0)
            noise = flow_ode_step(noise, velocity, sigmas[step], sigmas[step + 1])
    return noise


def test_a_shared_prefix_is_the_ode_from_the_first_images_noise(
    tiny_policy: StableDiffusion3Policy, tune: Callable[..., None]
) -> None:
    """All images of a group are in one state when the window begins, and in their own when it has begun.

    Catches in sampling/groups.py: a prefix from another image's noise; its steps walked twice.
    """
    tune(tiny_policy)
    plan = replace(PLAN, window=Window(2, 4, 2), shared_prefix=True)
    _, trajectory = make_sampling(tiny_policy, plan, prompting=EmbeddingNoise(0.5, 0.0, 0.1))(BATCH, CPU)
    assert trajectory.steps_K == (2, 3)
    for group, prompt in enumerate(BATCH.prompts):
        first_sample = BATCH.groups[group] * 3
        noise = torch.randn(tiny_policy.latent_shape, generator=make_generator("initial_latents", 7, 3, first_sample))
        expected = ode_by_hand(tiny_policy, noise[None], prompt, 2)
        branches = trajectory.latents_KBCHW[:, 3 * group : 3 * group + 3]
        for branch in branches[0]:
            torch.testing.assert_close(branch[None], expected, rtol=0, atol=1e-5)  # batches of one and two differ
        assert float(torch.pdist(branches[1].flatten(1)).min()) > 0.1


def test_a_shared_prefix_saves_the_forward_passes_of_all_images_but_one(tiny_policy: StableDiffusion3Policy) -> None:
    def rows(plan: RolloutPlan) -> int:
        seen = []
        hook = tiny_policy.network.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(len(kwargs["hidden_states"])), with_kwargs=True
        )
        make_sampling(tiny_policy, plan)(BATCH, CPU)
        hook.remove()
        return sum(seen)

    late = replace(PLAN, window=Window(2, 4, 2))
    assert rows(late) == 5 * 6
    assert rows(replace(late, shared_prefix=True)) == 2 * 2 + 3 * 6


def test_kept_predictions_and_means_are_those_of_the_steps(
    tiny_policy: StableDiffusion3Policy, tune: Callable[..., None]
) -> None:
    """x - sigma v with the velocity asked for anew; nothing is kept unless it is wanted."""
    tune(tiny_policy)
    sampling = make_sampling(tiny_policy, keep=frozenset({"means", "predictions"}), micro_batch=6)
    condition, trajectory = sampling(BATCH, CPU)
    sampler = sampling.sampler(CPU)
    for k, step in enumerate(trajectory.steps_K):
        state, sigma = trajectory.latents_KBCHW[k], sampler.sigmas[step]
        with torch.no_grad():
            velocity = tiny_policy.predict(state, sigma, condition.unvaried, sampler.negative, 1.0)
        torch.testing.assert_close(trajectory.predicted_KBCHW[k], state - sigma * velocity, rtol=0, atol=0)
        std, _ = sampler.spread(step)
        standardised = (trajectory.latents_KBCHW[k + 1] - trajectory.mean_KBCHW[k]) / std
        assert float(standardised.square().mean()) == pytest.approx(1, abs=0.12)  # 1,536 normal numbers: 3 sigma
    _, bare = make_sampling(tiny_policy)(BATCH, CPU)
    assert bare.mean_KBCHW is None
    assert bare.predicted_KBCHW is None


def test_each_image_is_conditioned_on_its_own_rewrite(tiny_policy: StableDiffusion3Policy) -> None:
    """And the rewrites are what the variation says, encoded."""
    variants = TextVariants(templates=("big {prompt}", "{prompt} sky", "a {prompt}"))
    condition, _ = make_sampling(tiny_policy, prompting=variants)(BATCH, CPU)
    repeated = [prompt for prompt in BATCH.prompts for _ in range(3)]
    texts = variants.rewrite(repeated, 7, 3, BATCH.samples)
    assert len(set(texts)) > 2
    assert torch.equal(condition.unvaried.tokens_BLE, encode_alone(tiny_policy, texts))
    assert isinstance(condition, VariedCondition)


def test_the_unconditional_branch_is_encoded_as_a_negative_prompt(
    tiny_policy: StableDiffusion3Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And prompts are not, though one of them is the same text."""
    encode, calls = tiny_policy.encode, []
    monkeypatch.setattr(tiny_policy, "encode", lambda texts, negative: calls.append((texts, negative)) or encode(texts))
    sampling = make_sampling(tiny_policy, replace(PLAN, negative_prompt="sky", guidance_scale=2.0))
    sampling(BATCH, CPU)
    assert sorted(calls) == [(["a red cat"], False), (["sky"], False), (["sky"], True)]


def encode_alone(policy: StableDiffusion3Policy, texts: Sequence[str]) -> Tensor:
    return torch.cat([policy.encode([text]).tokens_BLE for text in texts])


def split_batch(rank: int) -> PromptBatch:
    """Of three groups of three images on two processes: four images of two groups, and five of two."""
    samples = (0, 1, 2, 3) if rank == 0 else (4, 5, 6, 7, 8)
    return PromptBatch(7, 3, ("a red cat", "sky", "sea"), (0, 1, 2), 3, Split(samples, 5, 2))


@pytest.mark.parametrize("shared_prefix", [False, True])
def test_images_of_split_groups_are_those_of_whole_ones(
    tiny_policy: StableDiffusion3Policy, tune: Callable[..., None], shared_prefix: bool
) -> None:
    """Their noise, prefix, text and variation, whichever process has them; up to float32 sums.

    Every process makes as many forward passes: three of at most two images each.

    Catches in sampling/groups.py: a prefix from the noise of the process's first image of a group; a process with
    fewer images makes fewer passes, and those of a sharded network wait for each other.
    Catches in core/prompt_batch.py: an image's prompt taken from its place on the process.
    """
    tune(tiny_policy)
    rule = TextVariants(("{prompt} now", "the {prompt}"), noise=EmbeddingNoise(0.5, 0.0, 0.1))
    sampling = make_sampling(tiny_policy, replace(PLAN, shared_prefix=shared_prefix), prompting=rule)
    whole_condition, whole = sampling(replace(split_batch(0), split=None), CPU)
    passes: list[int] = []
    counted = tiny_policy.network.register_forward_hook(lambda *_: passes.append(1))
    for rank in (0, 1):
        before, shown, batch = len(passes), [], split_batch(rank)
        condition, part = sampling(batch, CPU, shown.append)
        assert len(passes) - before == (3 * 4 + 1 if shared_prefix else 3 * 5)
        for name in ("latents_KBCHW", "log_prob_KB", "images_B3HW", "final_BCHW"):
            axis = name.rpartition("_")[2].index("B")
            expected = getattr(whole, name).index_select(axis, torch.tensor(batch.samples))
            torch.testing.assert_close(getattr(part, name), expected, rtol=0, atol=1e-5)
        assert torch.equal(torch.cat(shown), part.images_B3HW)
        expected_BLE = whole_condition[torch.tensor(batch.samples)].at(0.9).tokens_BLE
        torch.testing.assert_close(condition.at(0.9).tokens_BLE, expected_BLE)
    counted.remove()
