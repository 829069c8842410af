"""The per-step form of the shaping bonus, against the telescoping sum of its transitions."""

import math

import pytest
import torch
from torch import Tensor

from drift_pl.functional.diversity import distance_to_others
from drift_pl.incentive.potentials import POTENTIALS
from drift_pl.incentive.shaping import DiversityShaping

STEPS, GROUPS, SIZE, CHANNELS = 6, 2, 5, 7


@pytest.fixture
def states(generator: torch.Generator) -> Tensor:
    """Embeddings of the images predicted before each of T steps, then of the final images: [T + 1, P, G, D]."""
    return torch.randn(STEPS + 1, GROUPS, SIZE, CHANNELS, generator=generator) + 0.5


VALID = torch.tensor([[True] * 5, [True, False, True, True, True]])
REWARD = torch.tensor([[0.0, 3.0, 1.0, 2.0, -1.0], [1.0, 9.0, 1.0, 0.0, 0.5]])


def return_to_go(shaping: DiversityShaping, states: Tensor, step: int) -> Tensor:
    """The definition: shaping rewards gamma Phi(s') - Phi(s) of every transition from `step` on, discounted to it."""
    phi = [shaping.phi(state, VALID, REWARD) for state in states]
    phi[0] = torch.zeros_like(phi[0])
    rewards = [shaping.gamma * after - before for before, after in zip(phi[:-1], phi[1:], strict=True)]
    discounted = [shaping.gamma ** (u - step) * rewards[u] for u in range(step, STEPS)]
    return shaping.weight * torch.stack(discounted).sum(0)


@pytest.mark.parametrize("window", [(0, 1, 2, 3, 4, 5), (2, 3), (5,)])
@pytest.mark.parametrize("gamma", [1.0, 0.8])
@pytest.mark.parametrize(
    "options",
    [{"potential": name} for name in POTENTIALS]
    + [{"normalise": "minmax"}, {"normalise": "centred"}, {"gate": "median"}],
    ids=lambda options: "".join(options.values()),
)
def test_the_return_to_go_telescopes(
    options: dict[str, str], gamma: float, window: tuple[int, ...], states: Tensor
) -> None:
    """Catches in incentive/shaping.py: per step: T - t - 1; gamma^T for all; place in the window for t; Phi_0 from the
    prediction; sign of Phi_t; no weight; no gate on Phi_t.
    """
    shaping = DiversityShaping(0.7, gamma, **options)
    bonus = shaping.stepwise(states[-1], states[list(window)], VALID, window, STEPS, REWARD)
    expected = torch.stack([return_to_go(shaping, states, step) for step in window])
    torch.testing.assert_close(bonus, expected, rtol=0, atol=1e-6)  # a float32 sum of up to twelve potentials
    assert bonus.dtype == torch.float32
    assert torch.equal(bonus[:, ~VALID], torch.zeros(len(window), 1))


def test_by_hand() -> None:
    """Two images: opposite at the end (d = 2), at right angles before step 3 of 4 (d = 1), duplicates before step 0."""
    right, up, left = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]
    predicted = torch.tensor([[[right, right]], [[right, up]]])
    final, valid = torch.tensor([[right, left]]), torch.ones(1, 2, dtype=torch.bool)
    bonus = DiversityShaping(10.0, 0.5).stepwise(final, predicted, valid, (0, 3), 4)
    torch.testing.assert_close(bonus, torch.tensor([[[10 * 0.5**4 * 2] * 2], [[10 * (0.5 * 2 - 1)] * 2]]))


def test_from_the_start_it_is_the_terminal_form(states: Tensor) -> None:
    """Phi_0 is 0 for any prediction."""
    shaping = DiversityShaping(1.3, 0.9, "minmax", potential="vendi", gate="quantile", gate_quantile=0.3)
    bonus = shaping.stepwise(states[-1], states[:1], VALID, (0,), STEPS, REWARD)
    torch.testing.assert_close(bonus[0], shaping(states[-1], VALID, STEPS, REWARD))


def test_a_prediction_without_an_embedding_has_no_part_in_its_group(states: Tensor) -> None:
    """Image 2 of the first group before step 4: the others' potential there is that of the other four."""
    states[4, 0, 2] = math.nan
    bonus = DiversityShaping(1.0).stepwise(states[-1], states[[3, 4]], VALID, (3, 4), STEPS)
    others = [0, 1, 3, 4]
    final = distance_to_others(states[-1], VALID)
    expected = final[0, others] - distance_to_others(states[4, :1, others])[0]
    torch.testing.assert_close(bonus[1, 0, others], expected)
    torch.testing.assert_close(bonus[1, 0, 2], final[0, 2])
    torch.testing.assert_close(bonus[0], final - distance_to_others(states[3], VALID))


def test_steps_and_predictions_must_match(states: Tensor) -> None:
    with pytest.raises(ValueError, match="zip"):
        DiversityShaping(1.0).stepwise(states[-1], states[:2], VALID, (0,), STEPS)


def test_the_expectation_before_a_step_is_a_baseline() -> None:
    """With gamma = 1 the per-step bonus has the terminal form's expected gradient, and here less variance.

    A policy of two steps: angle after the first N(0, 1), after the second N(that, s^2); the prediction before the
    second step is the angle itself, and the score of the second step's log s is z^2 - 1 for its normal draw z.
    Oracle: the final angles of two images differ by N(0, 2 (1 + s^2)), so the expected distance is
    J = 1 - exp(-(1 + s^2)), dJ / dlog s = 2 s^2 exp(-(1 + s^2)), and the mean over two images of d_i times the score is
    half of that (see drift_pl/incentive/shaping.py).
    """
    spread, groups = 0.3, 200_000
    draws = torch.randn(2, groups, 2, generator=torch.Generator().manual_seed(3))
    before, after = (torch.stack([angle.cos(), angle.sin()], -1) for angle in (draws[0], draws[0] + spread * draws[1]))
    valid = torch.ones(groups, 2, dtype=torch.bool)
    score = draws[1].double().square() - 1
    bonuses = {
        "terminal": DiversityShaping(1.0)(after, valid, 2),
        "per_step": DiversityShaping(1.0).stepwise(after, before[None], valid, (1,), 2)[0],
    }
    expected = spread**2 * math.exp(-(1 + spread**2))
    errors = {}
    for name, bonus in bonuses.items():
        per_group = (bonus.double() * score).mean(1)
        errors[name] = float(per_group.std() / groups**0.5)
        assert float(per_group.mean()) == pytest.approx(expected, abs=4 * errors[name])
    assert expected > 20 * errors["per_step"]
    assert errors["per_step"] < 0.7 * errors["terminal"]
