"""Rollout and replay, and that both see the same thing."""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from drift_pl.core.registry import find
from drift_pl.core.rng import normal_per_sample, sample_generators
from drift_pl.core.types import Condition, Trajectory
from drift_pl.functional.losses import gaussian_kl
from drift_pl.functional.transition import flow_cps_step, flow_sde_diffusion, flow_sde_step
from drift_pl.incentive.prompting import EmbeddingNoise, VariedCondition
from drift_pl.policies.process import FlowProcess
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.rollout import Sampler, replay, rollout, sample_ode
from drift_pl.sampling.stochastic import FlowSde

PROMPTS = ["a red cat", "two big dog"]
WINDOW = (1, 2, 3)
Tune = Callable[..., None]


def make_sampler(policy: StableDiffusion3Policy, guidance_scale: float = 1.0, steps: int = 5) -> Sampler:
    return Sampler(policy.sigmas(steps), guidance_scale, policy.encode([""], negative=True), FlowSde(0.7))


def group_condition(policy: StableDiffusion3Policy, group_size: int = 3, scale: float = 0.0) -> VariedCondition:
    condition = policy.encode(PROMPTS).repeat_interleave(group_size)
    return EmbeddingNoise(scale, low=0.0, high=0.1)(condition, 0, 0, range(len(condition)))


def initial_noise(policy: StableDiffusion3Policy, count: int) -> Tensor:
    return normal_per_sample(sample_generators("initial_latents", 0, 0, samples=range(count)), policy.latent_shape)


def generators(count: int) -> list[torch.Generator]:
    return sample_generators("sde_noise", 0, 0, samples=range(count))


def walk(
    policy: StableDiffusion3Policy,
    sampler: Sampler,
    condition: VariedCondition,
    window: tuple[int, ...] = WINDOW,
    micro_batch: int | None = None,
    noisy: tuple[int, ...] = (),
) -> Trajectory:
    count = len(condition)
    noise = initial_noise(policy, count)
    parts = [slice(first, first + (micro_batch or count)) for first in range(0, count, micro_batch or count)]
    runs = (rollout(policy, sampler, condition[p], window, noise[p], generators(count)[p], noisy=noisy) for p in parts)
    return Trajectory.concatenate(runs, count)


def all_rows(trajectory: Trajectory) -> Tensor:
    return torch.arange(len(trajectory.images_B3HW))


@pytest.mark.parametrize("guidance_scale", [1.0, 4.5])
@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_the_ratio_before_the_first_update_is_exactly_one(
    tiny_policy: StableDiffusion3Policy, tune: Tune, guidance_scale: float, scale: float
) -> None:
    """Replayed in the rollout's own micro-batches, with gradients on: bit for bit.

    Catches in sampling/rollout.py: replay conditions on the clean prompt instead of the rollout's varied one; replay at
    the neighbouring step of the grid; stored trajectory rounded to bfloat16 after it was scored; next state of the
    replay off by one; noise in every step, window or not; log-probability of the noise-free mean.
    Catches: trajectory stored in another precision than it was scored in.
    """
    tune(tiny_policy)
    sampler = make_sampler(tiny_policy, guidance_scale)
    condition = group_condition(tiny_policy, scale=scale)
    trajectory = walk(tiny_policy, sampler, condition, micro_batch=3)
    for rows in torch.arange(6).split(3):
        for k in range(len(WINDOW)):
            step = replay(tiny_policy, sampler, trajectory, k, rows, condition[rows], with_reference=k == 1)
            assert torch.equal(step.log_prob_B.detach(), trajectory.log_prob_KB[k, rows])
            assert step.log_prob_B.requires_grad


def test_log_probabilities_are_those_of_the_transitions_taken(tiny_policy: StableDiffusion3Policy, tune: Tune) -> None:
    """Oracle: torch.distributions on the mean and std of each step, at the latents that were stored."""
    tune(tiny_policy)
    sampler, condition = make_sampler(tiny_policy), group_condition(tiny_policy, scale=0.5)
    trajectory = walk(tiny_policy, sampler, condition)
    assert trajectory.steps_K == WINDOW
    assert trajectory.latents_KBCHW.shape == (4, 6, 4, 8, 8)
    assert trajectory.log_prob_KB.shape == (3, 6)
    assert trajectory.latents_KBCHW.dtype == trajectory.log_prob_KB.dtype == torch.float32
    for k, number in enumerate(WINDOW):
        before, after = trajectory.latents_KBCHW[k], trajectory.latents_KBCHW[k + 1]
        with torch.no_grad():
            step_taken = sampler.transition(tiny_policy, before, number, condition)
            mean, std = step_taken.mean_BCHW, step_taken.std
        expected = Normal(mean.double(), std.double()).log_prob(after.double()).flatten(1).mean(1)
        # float32: 256 squares of size 1 from differences of latents of size 3
        torch.testing.assert_close(trajectory.log_prob_KB[k].double(), expected, rtol=0, atol=2e-5)


def test_noise_of_an_untrained_last_step_follows_that_of_the_window(tiny_policy: StableDiffusion3Policy) -> None:
    """flow_grpo's rollouts of FLUX: the images are those of a window that reaches the end, of which one step less is
    kept. Without it the last step is the ODE's.

    Catches in sampling/rollout.py: noise in every step outside of the window; the last step scored as a trained one.
    """
    sampler, condition = make_sampler(tiny_policy), group_condition(tiny_policy)
    last = sampler.num_steps - 1
    window = tuple(range(1, last))
    without, untrained = (walk(tiny_policy, sampler, condition, window, noisy=noisy) for noisy in ((), (last,)))
    trained = walk(tiny_policy, sampler, condition, (*window, last))
    assert torch.equal(untrained.final_BCHW, trained.final_BCHW)
    assert torch.equal(untrained.latents_KBCHW, trained.latents_KBCHW[:-1])
    assert torch.equal(untrained.log_prob_KB, trained.log_prob_KB[:-1])
    assert torch.equal(untrained.latents_KBCHW, without.latents_KBCHW)
    assert not torch.equal(untrained.final_BCHW, without.final_BCHW)


def test_a_replayed_step_holds_its_mean_std_and_length(tiny_policy: StableDiffusion3Policy) -> None:
    sampler, condition = make_sampler(tiny_policy), group_condition(tiny_policy)
    trajectory = walk(tiny_policy, sampler, condition)
    step = replay(tiny_policy, sampler, trajectory, 1, all_rows(trajectory), condition, with_reference=False)
    taken = sampler.transition(tiny_policy, trajectory.latents_KBCHW[1], 2, condition)
    mean, std = taken.mean_BCHW, taken.std
    assert torch.equal(step.mean_BCHW, mean)
    assert torch.equal(step.std, std)
    assert float(step.length) == pytest.approx(float(sampler.sigmas[2] - sampler.sigmas[3]))
    assert step.reference_mean_BCHW is None


def test_replaying_another_step_or_another_condition_is_noticed(
    tiny_policy: StableDiffusion3Policy,
) -> None:
    """That the exact ratio above is no accident of a policy that ignores its inputs.

    Catches in sampling/rollout.py: steps outside of the window draw from the generators.
    """
    sampler, condition = make_sampler(tiny_policy), group_condition(tiny_policy, scale=0.5)
    trajectory = walk(tiny_policy, sampler, condition)
    rows = all_rows(trajectory)
    clean = VariedCondition(condition.clean)
    step = replay(tiny_policy, sampler, trajectory, 0, rows, clean, with_reference=False)
    assert (step.log_prob_B - trajectory.log_prob_KB[0]).abs().min() > 1e-5
    step = replay(tiny_policy, sampler, trajectory, 1, rows, condition, with_reference=False)
    assert (step.log_prob_B - trajectory.log_prob_KB[0]).abs().min() > 1e-5


def test_the_reference_is_the_model_before_fine_tuning(tiny_policy: StableDiffusion3Policy, tune: Tune) -> None:
    """Catches in sampling/rollout.py: reference pass of the replay with the adapter on.
    Catches: the reference is the tuned model.
    """
    sampler, condition = make_sampler(tiny_policy, 4.5), group_condition(tiny_policy, scale=0.5)
    trajectory = walk(tiny_policy, sampler, condition)
    rows = all_rows(trajectory)
    before = replay(tiny_policy, sampler, trajectory, 1, rows, condition, with_reference=True)
    assert torch.equal(before.mean_BCHW.detach(), before.reference_mean_BCHW)  # the adapter is still zero
    tune(tiny_policy)
    after = replay(tiny_policy, sampler, trajectory, 1, rows, condition, with_reference=True)
    assert torch.equal(after.reference_mean_BCHW, before.reference_mean_BCHW)
    assert (after.mean_BCHW - before.mean_BCHW).abs().max() > 1e-3


def test_the_divergence_pulls_the_adapter_and_not_the_reference(
    tiny_policy: StableDiffusion3Policy, tune: Tune
) -> None:
    """A small step down its gradient brings the policy nearer to the reference.

    Catches in sampling/rollout.py: KL without gradient (detached mean).
    Catches: the KL term has no gradient.
    """
    tune(tiny_policy, std=0.1)
    sampler, condition = make_sampler(tiny_policy), group_condition(tiny_policy)
    trajectory = walk(tiny_policy, sampler, condition)

    def divergence() -> Tensor:
        step = replay(tiny_policy, sampler, trajectory, 0, all_rows(trajectory), condition, with_reference=True)
        assert step.reference_mean_BCHW is not None
        assert not step.reference_mean_BCHW.requires_grad
        return gaussian_kl(step.mean_BCHW, step.reference_mean_BCHW, step.std).mean()

    before = divergence()
    before.backward()
    squared = sum(float(p.grad.square().sum()) for _, p in tiny_policy.trainable_parameters())
    assert squared > 0
    with torch.no_grad():
        rate = 0.1 * float(before) / squared  # to first order, this takes a tenth of it away
        for _, parameter in tiny_policy.trainable_parameters():
            parameter.sub_(rate * parameter.grad)
    # a tenth, within the second-order term
    assert float(divergence().detach()) == pytest.approx(0.9 * float(before.detach()), rel=0.03)


def test_replaying_some_rows_is_replaying_all_of_them(tiny_policy: StableDiffusion3Policy) -> None:
    sampler, condition = make_sampler(tiny_policy), group_condition(tiny_policy, scale=0.5)
    trajectory = walk(tiny_policy, sampler, condition)
    rows = torch.tensor([5, 0, 3])
    step = replay(tiny_policy, sampler, trajectory, 2, rows, condition[rows], with_reference=False)
    torch.testing.assert_close(step.log_prob_B, trajectory.log_prob_KB[2, rows], rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [(0,), (1, 2), (3, 4), (0, 1, 2, 3, 4)])
def test_outside_of_the_window_the_ode_is_followed(
    tiny_policy: StableDiffusion3Policy, window: tuple[int, ...]
) -> None:
    """Oracle: diffusers' scheduler steps before the window and after it."""
    sampler, condition = make_sampler(tiny_policy), group_condition(tiny_policy)
    trajectory = walk(tiny_policy, sampler, condition, window)

    def follow(latents: Tensor, steps: range) -> Tensor:
        for step in steps:
            sigma, sigma_next = sampler.sigmas[step], sampler.sigmas[step + 1]
            with torch.no_grad():
                velocity = tiny_policy.predict(latents, sigma, condition.clean, sampler.negative, 1)
            latents = latents + (sigma_next - sigma) * velocity
        return latents

    start = follow(initial_noise(tiny_policy, 6), range(window[0]))
    torch.testing.assert_close(trajectory.latents_KBCHW[0], start, rtol=0, atol=1e-6)
    end = follow(trajectory.latents_KBCHW[-1], range(window[-1] + 1, 5))
    torch.testing.assert_close(trajectory.images_B3HW, tiny_policy.decode(end), rtol=0, atol=1e-6)
    assert len(trajectory.log_prob_KB) == len(window)


def test_steps_outside_of_the_window_draw_nothing(tiny_policy: StableDiffusion3Policy) -> None:
    """The generators have moved on by one draw of the latents' shape per step of the window, and by no other."""
    sampler, condition = make_sampler(tiny_policy), group_condition(tiny_policy)
    used = generators(6)
    before = torch.get_rng_state()
    rollout(tiny_policy, sampler, condition, (2, 3), initial_noise(tiny_policy, 6), used)
    assert torch.equal(torch.get_rng_state(), before)
    fresh = generators(6)
    for _ in (2, 3):
        normal_per_sample(fresh, tiny_policy.latent_shape)
    for ours, theirs in zip(used, fresh, strict=True):
        assert torch.equal(ours.get_state(), theirs.get_state())


def test_two_images_of_a_group_never_share_noise(tiny_policy: StableDiffusion3Policy) -> None:
    """Identical prompts: initial noise, the noise of every step and the images are pairwise different."""
    count = 8
    sampler = make_sampler(tiny_policy)
    condition = VariedCondition(tiny_policy.encode(["a red cat"]).repeat_interleave(count))
    trajectory = walk(tiny_policy, sampler, condition)
    noises = [initial_noise(tiny_policy, count)]
    for k, step in enumerate(WINDOW):
        with torch.no_grad():
            taken = sampler.transition(tiny_policy, trajectory.latents_KBCHW[k], step, condition)
            mean, std = taken.mean_BCHW, taken.std
        noises.append((trajectory.latents_KBCHW[k + 1] - mean) / std)
    flat = torch.cat([noise.flatten(1) for noise in noises]).double().numpy()  # 4 draws of 8 images
    correlation = np.corrcoef(flat) - np.eye(len(flat))
    assert np.abs(correlation).max() < 5 / np.sqrt(flat.shape[1])  # five standard errors of independent noise
    images = trajectory.images_B3HW
    for one in range(count):
        for other in range(one):
            assert (images[one] - images[other]).abs().max() > 1e-3


def test_an_image_does_not_depend_on_its_neighbours(tiny_policy: StableDiffusion3Policy) -> None:
    sampler, condition = make_sampler(tiny_policy), group_condition(tiny_policy)
    together = walk(tiny_policy, sampler, condition)
    rows = torch.tensor([4, 1])
    noise, some = initial_noise(tiny_policy, 6)[rows], [generators(6)[row] for row in rows]
    alone = rollout(tiny_policy, sampler, condition[rows], WINDOW, noise, some)
    torch.testing.assert_close(alone.images_B3HW, together.images_B3HW[rows], rtol=0, atol=1e-5)


class FlowOfAGaussian:
    """A policy whose velocity is the exact one of data N(1.5, 0.5^2), element by element."""

    network = torch.nn.Identity()
    process = FlowProcess()

    def __init__(self, latent_shape: tuple[int, ...] = (4, 64, 64)) -> None:
        self.latent_shape = latent_shape

    def predict(self, latents: Tensor, sigma: Tensor, condition: Condition, negative: Condition, _: float) -> Tensor:
        variance = (1 - sigma) ** 2 * 0.25 + sigma**2
        return -1.5 + (sigma - (1 - sigma) * 0.25) / variance * (latents - (1 - sigma) * 1.5)

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def reference(self) -> nullcontext:
        return nullcontext()


def toy_sampler(num_steps: int, noise_level: float = 0.7) -> tuple[Sampler, VariedCondition]:
    time = torch.linspace(1, 0, num_steps + 1)
    nothing = Condition(torch.zeros(16, 1, 1), None, torch.ones(1, dtype=torch.int64))
    return Sampler(3 * time / (1 + 2 * time), 1.0, nothing[:1], FlowSde(noise_level)), VariedCondition(nothing)


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("kind", ["flow_sde", "dance_sde", "flow_cps"])
def test_each_stochastic_step_is_its_own_formula(kind: str, step: int) -> None:
    """Oracle: the functions of `functional/transition.py`; the spread is known without a state, too.

    Catches in sampling/stochastic.py: DanceGRPO's step with Flow-GRPO's diffusion; Flow-GRPO's pole at the wrong noise
    level.
    """
    plain, condition = toy_sampler(6, 0.4)
    sampler = dataclasses.replace(plain, stochastic=find("sampler", kind)(0.4))
    policy, sigma, sigma_next = FlowOfAGaussian(), sampler.sigmas[step], sampler.sigmas[step + 1]
    x_BCHW = torch.randn(16, *policy.latent_shape, generator=torch.Generator().manual_seed(3))
    v_BCHW = policy.predict(x_BCHW, float(sigma), condition.at(float(sigma)), plain.negative, 1.0)
    mean_BCHW, std = {
        "flow_sde": lambda: flow_sde_step(
            x_BCHW, v_BCHW, sigma, sigma_next, flow_sde_diffusion(sigma, sampler.sigmas[1], 0.4)
        ),
        "dance_sde": lambda: flow_sde_step(x_BCHW, v_BCHW, sigma, sigma_next, torch.tensor(0.4)),
        "flow_cps": lambda: flow_cps_step(x_BCHW, v_BCHW, sigma, sigma_next, 0.4),
    }[kind]()
    taken = sampler.transition(policy, x_BCHW, step, condition)
    torch.testing.assert_close(taken.mean_BCHW, mean_BCHW, rtol=0, atol=1e-6)
    assert float(taken.std) == pytest.approx(float(std), rel=1e-6)
    spread, length = sampler.spread(step)
    assert float(spread) == pytest.approx(float(std), rel=1e-6)
    assert float(length) == pytest.approx(float(sigma - sigma_next), rel=1e-6)


def test_latents_of_a_video_are_sampled_and_replayed_like_an_images() -> None:
    """An axis of frames, [C, F, H, W]: the ratio is exactly 1, and the numbers are those of the frames side by side.

    Catches in functional/transition.py: log-probability averaged over the last three axes only.
    """
    sampler, condition = toy_sampler(4)
    shapes = ((4, 3, 8, 5), (4, 3 * 8, 5))
    noise = normal_per_sample(sample_generators("initial_latents", 0, samples=range(16)), shapes[0])
    found = []
    for shape in shapes:
        policy, start = FlowOfAGaussian(shape), noise.view(16, *shape)
        run = rollout(policy, sampler, condition, (1, 2), start, generators(16), keep=("means", "predictions"))
        assert run.latents_KBCHW.shape == (3, 16, *shape)
        for k in range(2):
            step = replay(policy, sampler, run, k, torch.arange(16), condition, with_reference=True)
            assert torch.equal(step.log_prob_B, run.log_prob_KB[k])
        found.append(run)
    video, image = found
    assert torch.equal(video.final_BCHW.flatten(1), image.final_BCHW.flatten(1))
    assert torch.equal(video.log_prob_KB, image.log_prob_KB)


@pytest.mark.parametrize(
    ("window", "published_std"), [(range(40), 0.479), (range(0), 0.465)], ids=["stochastic", "deterministic"]
)
def test_samples_of_a_gaussian_flow_are_distributed_as_its_data(window: range, published_std: float) -> None:
    """Oracle: an independent implementation's spread after 40 steps, and the closed form in the middle of the walk."""
    sampler, condition = toy_sampler(40)
    policy = FlowOfAGaussian()
    noise = normal_per_sample(sample_generators("initial_latents", 0, samples=range(16)), policy.latent_shape)
    if window:
        trajectory = rollout(policy, sampler, condition, window, noise, generators(16))
        samples = trajectory.images_B3HW.double()
        middle, sigma = trajectory.latents_KBCHW[20].double(), float(sampler.sigmas[20])
        assert float(middle.mean()) == pytest.approx((1 - sigma) * 1.5, abs=4 / middle.numel() ** 0.5)
        # Euler's error half-way through 40 steps: 2.5 %, by the same recursion in numpy
        assert float(middle.std()) == pytest.approx(((1 - sigma) ** 2 * 0.25 + sigma**2) ** 0.5, rel=0.03)
    else:
        samples = sample_ode(policy, sampler, noise, condition).double()
    error = 0.5 / samples.numel() ** 0.5
    assert float(samples.mean()) == pytest.approx(1.5, abs=4 * error)
    # three digits printed, three standard errors of theirs (400,000 samples) and of ours
    tolerance = 5e-4 + 3 * 0.5 / (2 * 400_000) ** 0.5 + 3 * error / 2**0.5
    assert float(samples.std()) == pytest.approx(published_std, abs=tolerance)
