"""The forward process, and DiffusionNFT's loss against its own equation and closed forms."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from drift_pl.core.rng import make_generator
from drift_pl.functional.forward_process import (
    ADVANTAGE_MODES,
    error_weight,
    grid_levels,
    matching_log_prob,
    nft_loss,
    noised,
    stratified_times,
)

SHAPE = (6, 4, 3, 3)


def test_one_time_in_each_part_and_every_place_is_had() -> None:
    draws = [stratified_times(4, make_generator("times", number)) for number in range(200)]
    for times in draws:
        assert [int(4 * time) for time in times] == [0, 1, 2, 3]
        assert times == pytest.approx([times[0] + part / 4 for part in range(4)])
    first = torch.tensor([times[0] for times in draws])
    # twentieths of a part at both ends are left out, and one draw in twenty falls into each
    assert float(first.min()) == pytest.approx(0.05 / 4)
    assert float(first.max()) == pytest.approx(0.95 / 4)
    assert float(first.mean()) == pytest.approx(0.125, abs=0.02)
    assert all(0 < time < 1 for times in draws for time in times)


def test_an_image_is_found_back_from_its_noised_state_and_velocity(generator: torch.Generator) -> None:
    clean, noise = torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)
    for time in (0.1, 0.5, 0.9):
        state, velocity = noised(clean, noise, time)
        torch.testing.assert_close(state - time * velocity, clean)
        torch.testing.assert_close(state + (1 - time) * velocity, noise)


def test_the_loss_is_the_papers(generator: torch.Generator) -> None:
    """Oracle: eq. 5 of arXiv 2509.16117, with its implicit policies and its optimality r, written as in the paper."""
    v, old, u = (torch.randn(SHAPE, generator=generator) for _ in range(3))
    advantage = torch.tensor([-9.0, -5.0, -1.0, 0.0, 2.0, 7.0])
    beta, limit = 0.3, 5.0
    r = (0.5 + 0.5 * torch.clip(advantage / limit, -1, 1)).view(-1, 1, 1, 1)
    v_plus, v_minus = (1 - beta) * old + beta * v, (1 + beta) * old - beta * v
    expected = (r * (v_plus - u) ** 2 + (1 - r) * (v_minus - u) ** 2).mean((1, 2, 3)) * limit / beta
    torch.testing.assert_close(nft_loss(v, old, u, advantage, limit, beta), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_the_first_gradient_is_that_of_the_weighted_flow_matching_loss(generator: torch.Generator, beta: float) -> None:
    """Oracle: A |v - u|^2 at v = v_old, for any beta."""
    old, u = torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)
    advantage = torch.randn(6, generator=generator)
    ours, theirs = (old.clone().requires_grad_() for _ in range(2))
    nft_loss(ours, old, u, advantage, 5.0, beta).sum().backward()
    (advantage * (theirs - u).square().flatten(1).mean(1)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_the_minimum_is_the_velocity_of_reweighted_images() -> None:
    """Two images of one pixel, -1 and +1, and one is liked: in closed form, at a state that both may have come from.

    The posterior of +1 is p; with v_old = E[u] the loss is smallest at v_old - E[A (v_old - u)] / (beta A_max).
    """
    p, time, state = 0.3, 0.6, 0.1
    clean = torch.tensor([1.0, -1.0])
    u = (state - clean) / time
    probability, advantage = torch.tensor([p, 1 - p]), torch.tensor([1.0, -0.5])
    old = (probability * u).sum()
    v = old.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([v], max_iter=50, tolerance_grad=1e-9)

    def loss() -> Tensor:
        optimizer.zero_grad()
        values = nft_loss(as_images(v.expand(2)), as_images(old.expand(2)), as_images(u), advantage, 5.0, 0.4)
        total = (probability * values).sum()
        total.backward()
        return total

    optimizer.step(loss)
    expected = old - (probability * advantage * (old - u)).sum() / (0.4 * 5)
    assert float(v.detach()) == pytest.approx(float(expected), abs=1e-4)
    assert float(expected) < float(old), "towards the liked image, +1, whose velocity is the smaller"


def as_images(values_B: Tensor) -> Tensor:
    return values_B.view(-1, 1, 1, 1)


def test_a_zero_advantage_pulls_back_to_the_old_policy_only(generator: torch.Generator) -> None:
    old, u = torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)
    v = (old + 0.5).requires_grad_()
    nft_loss(v, old, u, torch.zeros(6), 5.0, 0.5).sum().backward()
    torch.testing.assert_close(v.grad, torch.full(SHAPE, 2 * 0.5 * 5.0 * 0.5 / (4 * 3 * 3)))


def test_weighted_errors_are_those_of_the_clean_latents_over_their_mean(generator: torch.Generator) -> None:
    """With x_0 = x_t - t v: squared error t^2 |v - u|^2 over mean absolute error t |v - u|."""
    old, u = torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)
    state, time = torch.randn(SHAPE, generator=generator), 0.7
    error = (state - time * old) - (state - time * u)
    expected = error.square().mean((1, 2, 3)) / error.abs().mean((1, 2, 3))
    ours = (old - u).square().mean((1, 2, 3)) * error_weight(old - u, time)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("time", [0.05, 0.5, 0.95])
def test_a_perfect_prediction_has_no_error_and_a_finite_weight(time: float, generator: torch.Generator) -> None:
    """The clean latents' error counts as 1e-5 at least, as in DiffusionNFT's code; without, inf * 0 is NaN.

    Catches in functional/forward_process.py: a weight without a floor.
    """
    u = torch.randn(SHAPE, generator=generator)
    for error in (0.0, 1e-9, 1e-3):
        old = u + error
        expected = time**2 / (time * (old - u).abs().mean((1, 2, 3))).clamp(min=1e-5)
        weight = error_weight(old - u, time)
        torch.testing.assert_close(weight, expected)
        assert ((old - u).square().mean((1, 2, 3)) * weight).isfinite().all()


def test_levels_of_a_grid_are_each_drawn_equally_often() -> None:
    """Oracles: of 10 levels 9 leave each one out in a tenth of 2,000 draws, and 4 have each in four tenths; the levels
    of Stable Diffusion 3.5's ten steps have mean 0.66, 60 % above 0.7 (uniform ones: 0.5 and 30 %).

    Catches in functional/forward_process.py: the same level twice; the last level, of the image, drawn.
    """
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    grid = scheduler.sigmas
    for number in (9, 4, 10, 1):
        draws = [grid_levels(number, grid, make_generator("times", place)) for place in range(2000)]
        assert all(len(set(levels)) == number and levels == sorted(levels, reverse=True) for levels in draws)
        counts = torch.tensor([sum(float(sigma) in levels for levels in draws) for sigma in grid[:-1]])
        assert (counts / 2000 - number / 10).abs().max() < 0.04, "four standard errors"
    levels = torch.tensor([level for place in range(500) for level in grid_levels(9, grid, make_generator("t", place))])
    assert float(levels.mean()) == pytest.approx(0.66, abs=0.01)
    assert float((levels > 0.7).float().mean()) == pytest.approx(0.6, abs=0.02)
    with pytest.raises(ValueError, match="grid of 10"):
        grid_levels(11, grid, make_generator("times", 0))


def published_nft(v: Tensor, old: Tensor, x_0: Tensor, noise: Tensor, t: float, r: Tensor, beta: float) -> Tensor:
    """DiffusionNFT's policy loss per image, transcribed from its paper (arXiv 2509.16117, eq. 5 and section 3.3): both
    branches in clean latents, x_theta = x_t - t v_theta, each over its own mean absolute error of at least 1e-5, which
    has no gradient. Shares nothing with the package."""
    x_t = (1 - t) * x_0 + t * noise
    total = 0.0
    for share, branch in ((r, (1 - beta) * old + beta * v), (1 - r, (1 + beta) * old - beta * v)):
        error = (x_t - t * branch) - x_0
        size = error.detach().abs().flatten(1).mean(1).clamp(min=1e-5)
        total = total + share * error.pow(2).flatten(1).mean(1) / size
    return total / beta


@pytest.mark.parametrize("time", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_with_a_weight_of_its_own_each_branch_is_the_papers(
    generator: torch.Generator, time: float, beta: float
) -> None:
    """Loss and gradient after the policy has moved; and the shared weight is another loss there, which the oracle sees.

    Catches in functional/forward_process.py: the old policy's weight for both branches; weights with gradient; the
    weights exchanged.
    """
    x_0, noise, old = (torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3))
    advantage = torch.tensor([-9.0, -5.0, -1.0, 0.0, 2.0, 7.0], dtype=torch.float64)
    r = 0.5 + 0.5 * (advantage / 5).clamp(-1, 1)
    target = noise - x_0
    gradients = {}
    for name in ("ours", "theirs", "shared"):
        v = (old + 0.8 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))).double().requires_grad_()
        if name == "theirs":
            loss = 5 * published_nft(v, old, x_0, noise, time, r, beta)
        else:
            loss = nft_loss(v, old, target, advantage, 5.0, beta, time if name == "ours" else None)
            loss = loss if name == "ours" else loss * error_weight(old - target, time)
        (gradients[name],) = torch.autograd.grad(loss.sum(), v)
        if name != "shared":
            values = loss.detach()
            torch.testing.assert_close(values, 5 * published_nft(v, old, x_0, noise, time, r, beta).detach())
    torch.testing.assert_close(gradients["ours"], gradients["theirs"])
    away = (gradients["shared"] - gradients["theirs"]).norm() / gradients["theirs"].norm()
    assert away > (0.05 if beta == 1 else 0.003)


def test_advantages_that_count() -> None:
    """Oracle: DiffusionNFT's adv_mode, by hand. Catches in functional/forward_process.py: signs exchanged."""
    advantage = torch.tensor([-2.0, -0.5, 0.0, 3.0])
    expected = {
        "all": [-2.0, -0.5, 0.0, 3.0],
        "positive_only": [0.0, 0.0, 0.0, 3.0],
        "negative_only": [-2.0, -0.5, 0.0, 0.0],
        "one_only": [0.0, 0.0, 0.0, 1.0],
        "binary": [-1.0, -1.0, 0.0, 1.0],
    }
    assert {mode: change(advantage).tolist() for mode, change in ADVANTAGE_MODES.items()} == expected


@pytest.mark.parametrize("form", ["uniform", "t", "t2", "huber", "ghuber"])
def test_a_matching_loss_as_a_log_density(generator: torch.Generator, form: str) -> None:
    """Oracle: the forms of AWM's code (arXiv 2509.25050), in float64; and a perfect prediction has a finite gradient.

    Catches in functional/forward_process.py: the power left out of the divisor; t in place of t^2.
    """
    v, u, t = torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator), 0.3
    e = ((v - u).double() ** 2).mean((1, 2, 3))
    expected = {
        "uniform": -e,
        "t": -e * t,
        "t2": -e * t**2,
        "huber": -((e + 1e-10).sqrt() - 1e-5) * t,
        "ghuber": -((e + 1e-10) ** 0.25 - 1e-10**0.25) * t / 0.25,
    }
    torch.testing.assert_close(matching_log_prob(v, u, t, form, 0.25).double(), expected[form], rtol=1e-5, atol=1e-6)
    v = u.clone().requires_grad_()
    matching_log_prob(v, u, t, form, 0.25).sum().backward()
    assert v.grad is not None
    assert v.grad.isfinite().all()


def test_at_level_zero_there_is_nothing_to_learn() -> None:
    """t / max(mean|e|, 1e-5 / t) = t^2 / max(t mean|e|, 1e-5) falls to 0. Catches: a division by zero."""
    error = torch.ones(2, 1, 2, 2)
    assert error_weight(error, 0.0).tolist() == [0.0, 0.0]
    assert error_weight(0 * error, 0.0).tolist() == [0.0, 0.0]
