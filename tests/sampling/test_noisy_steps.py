"""Which steps of a rollout have noise and are trained: none, single ones, the last one without training."""

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drift_pl.config.batches import noisy_steps
from drift_pl.config.loading import parse
from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.rng import normal_per_sample, sample_generators
from drift_pl.core.types import Trajectory
from drift_pl.incentive.prompting import PromptingRule, VariedCondition
from drift_pl.policies.sd3 import StableDiffusion3Policy
from drift_pl.sampling.groups import GroupSampling, RolloutPlan, Window
from drift_pl.sampling.prompts import PromptEncoder
from drift_pl.sampling.rollout import replay, rollout, sample_ode
from drift_pl.sampling.sampler import Sampler
from drift_pl.sampling.stochastic import FlowSde

BATCH = PromptBatch(seed=7, iteration=3, prompts=("a red cat", "sky"), groups=(2, 5), group_size=2)
PLAN = RolloutPlan(6, FlowSde(0.7), 1.0, "", Window(0, 5, 3, "subset"))
ROWS = torch.arange(4)
Tune = Callable[..., None]


def make_sampler(policy: StableDiffusion3Policy, solver: str = "euler") -> Sampler:
    return Sampler(policy.sigmas(6), 1.0, policy.encode([""], negative=True), FlowSde(0.7), solver=solver)


def start(policy: StableDiffusion3Policy) -> tuple[VariedCondition, Tensor]:
    condition = VariedCondition(policy.encode(["a red cat", "sky"]).repeat_interleave(2))
    generators = sample_generators("initial_latents", 0, 0, samples=range(4))
    return condition, normal_per_sample(generators, policy.latent_shape)


def walk(
    policy: StableDiffusion3Policy, sampler: Sampler, window: tuple[int, ...], noisy: Collection[int] = ()
) -> Trajectory:
    condition, noise = start(policy)
    generators = sample_generators("sde_noise", 0, 0, samples=range(4))
    return rollout(policy, sampler, condition, window, noise, generators, noisy=noisy)


@pytest.mark.parametrize("window", [(0, 2, 3), (1, 4), (0, 1, 2), (3,)])
def test_steps_that_do_not_follow_one_another_are_replayed(
    tiny_policy: StableDiffusion3Policy, tune: Tune, window: tuple[int, ...]
) -> None:
    """Each from its own state: log-probabilities are those of the rollout bit for bit.

    Meant for, in core/types.py: the states of a trajectory with gaps counted without them.
    Meant for, in sampling/rollout.py: the state before the ODE steps of a gap in place of the one after.
    """
    tune(tiny_policy)
    sampler, (condition, _) = make_sampler(tiny_policy), start(tiny_policy)
    trajectory = walk(tiny_policy, sampler, window)
    gaps = sum(after - before > 1 for before, after in zip(window, window[1:], strict=False))
    assert len(trajectory.latents_KBCHW) == len(window) + 1 + gaps
    for k in range(len(window)):
        step = replay(tiny_policy, sampler, trajectory, k, ROWS, condition, with_reference=False)
        assert torch.equal(step.log_prob_B.detach(), trajectory.log_prob_KB[k])


def test_a_drawn_subset_is_trained_and_changes_with_the_iteration(tiny_policy: StableDiffusion3Policy) -> None:
    """Meant for, in sampling/groups.py: `subset` as a window; one subset for the run."""
    seen = {PLAN.window.steps(7, iteration) for iteration in range(40)}
    assert len(seen) == 10, "3 of 5 steps"
    sampling = GroupSampling(tiny_policy, PromptEncoder(tiny_policy), PromptingRule(), PLAN, micro_batch=2)
    _, trajectory = sampling(BATCH, torch.device("cpu"))
    assert trajectory.steps_K == PLAN.window.steps(*BATCH.key)


def test_a_rollout_without_trained_steps_is_the_ode(tiny_policy: StableDiffusion3Policy, tune: Tune) -> None:
    """Bit for bit, and nothing is drawn but the initial noise. Meant for, in sampling/groups.py: one step at least."""
    tune(tiny_policy)
    sampler, (condition, noise) = make_sampler(tiny_policy), start(tiny_policy)
    trajectory = walk(tiny_policy, sampler, ())
    assert torch.equal(trajectory.final_BCHW, sample_ode(tiny_policy, sampler, noise, condition))
    assert trajectory.steps_K == ()
    assert trajectory.log_prob_KB.shape == (0, 4)
    plan = replace(PLAN, window=Window(0, 5, 0))
    sampling = GroupSampling(tiny_policy, PromptEncoder(tiny_policy), PromptingRule(), plan, micro_batch=3)
    _, trajectory = sampling(BATCH, torch.device("cpu"))
    assert (trajectory.steps_K, len(trajectory.images_B3HW)) == ((), 4)


def test_untrained_steps_may_have_noise(tiny_policy: StableDiffusion3Policy) -> None:
    """Oracle: the same images as with these steps trained, and nothing of them kept.

    Meant for, in sampling/rollout.py: noise of untrained steps left out; their log-probabilities kept.
    """
    sampler = make_sampler(tiny_policy)
    whole, some = walk(tiny_policy, sampler, (0, 1, 2, 5)), walk(tiny_policy, sampler, (0, 1), noisy=(1, 2, 5))
    assert torch.equal(some.final_BCHW, whole.final_BCHW)
    assert torch.equal(some.log_prob_KB, whole.log_prob_KB[:2])
    assert torch.equal(some.latents_KBCHW, whole.latents_KBCHW[:3])
    plain = walk(tiny_policy, sampler, (0, 1))
    assert not torch.equal(plain.final_BCHW, some.final_BCHW)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ([], ()),
        (["sampler.noisy_steps=all"], (0, 1, 2, 3, 4)),
        (["sampler.noisy_steps=all", "sampler.noisy_last_step=true"], (0, 1, 2, 3, 4, 5)),
        (["sampler.noisy_last_step=true", "sampler.train_last_step=false"], (5,)),
    ],
)
def test_which_untrained_steps_have_noise(
    tiny_policy: StableDiffusion3Policy, settings: list[str], steps: tuple[int, ...]
) -> None:
    """Meant for, in config/batches.py: noise in the last step without its own setting."""
    noisy = noisy_steps(parse(["experiment=shapes_drift", "sampler.steps=6", *settings]).config.sampler)
    assert tuple(noisy) == steps
    sampling = GroupSampling(
        tiny_policy, PromptEncoder(tiny_policy), PromptingRule(), replace(PLAN, noisy=noisy), micro_batch=4
    )
    condition, trajectory = sampling(BATCH, torch.device("cpu"))
    noise = sampling._noise(BATCH, BATCH.samples, torch.device("cpu"))
    drawn = sample_generators("step_noise", *BATCH.key, samples=BATCH.samples)
    inputs = (condition, trajectory.steps_K, noise, drawn)
    expected = rollout(tiny_policy, sampling.sampler(torch.device("cpu")), *inputs, noisy=steps)
    assert torch.equal(trajectory.final_BCHW, expected.final_BCHW)


def test_the_second_order_solver_starts_again_after_a_stochastic_step(
    tiny_policy: StableDiffusion3Policy, tune: Tune
) -> None:
    """Oracle: DPM-Solver++'s formula written down for the two steps that may use it, 4 after 3, and 2 none.

    For: sampling/solver.py: the prediction before the noise used after it; the last step of second order;
    Euler's step throughout.
    """
    tune(tiny_policy)
    condition, noise = start(tiny_policy)
    trajectory = walk(tiny_policy, make_sampler(tiny_policy, "dpm2"), (1,))
    grid, state = [float(sigma) for sigma in tiny_policy.sigmas(6)], trajectory.latents_KBCHW[-1]

    def clean(state: Tensor, step: int) -> Tensor:
        with torch.no_grad():
            velocity = tiny_policy.predict(state, torch.tensor(grid[step]), condition.clean, condition.clean, 1)
        return state - grid[step] * velocity

    def log_ratio(step: int) -> Tensor:
        return torch.tensor((1 - grid[step]) / grid[step], dtype=torch.float64).log()

    predictions = {}
    for step in range(2, 6):
        predictions[step] = mixed = clean(state, step)
        if step in (3, 4):
            r = (log_ratio(step) - log_ratio(step - 1)) / (log_ratio(step + 1) - log_ratio(step))
            mixed = mixed + (predictions[step] - predictions[step - 1]) / (2 * float(r))
        state = grid[step + 1] / grid[step] * state + (1 - grid[step + 1] / grid[step]) * mixed
    torch.testing.assert_close(trajectory.final_BCHW, state, rtol=0, atol=1e-5)
    euler = walk(tiny_policy, make_sampler(tiny_policy), (1,))
    assert (euler.final_BCHW - state).abs().max() > 1e-4
