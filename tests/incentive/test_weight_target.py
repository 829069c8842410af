"""The controller of a shaping weight against plants whose answer is known in closed form."""

import math
from collections.abc import Callable

import pytest

from drift_pl.incentive.target import WeightTarget

BASE = 0.8


def simulated(
    target: WeightTarget, plant: Callable[[float], float], iterations: int, weight: float, lag: float = 0.0
) -> list[float]:
    """Weights of a loop in which a plant says the groups' share of the base's diversity at a weight.

    Args:
        lag: share of the old diversity that stays in an iteration.
    """
    weights, share = [weight], 1.0
    for _ in range(iterations):
        share = lag * share + (1 - lag) * plant(weights[-1])
        weights.append(target.adjusted(weights[-1], BASE * share, BASE))
    return weights


@pytest.mark.parametrize("gain", [0.5, 1.0, 3.0])
def test_a_plant_linear_in_the_log_is_approached_geometrically(gain: float) -> None:
    """Oracle: with rho = rho_0 + k log w, log w - log w* is multiplied by 1 - gain k / share in each iteration.

    Catches in incentive/target.py: the sign of the error; the error not relative; the gain left out.
    """
    share, k, start = 0.9, 0.05, 2.0
    fixed = math.exp((share - 0.8) / k)
    weights = simulated(WeightTarget(share, gain, 1e-3, 1e3), lambda w: 0.8 + k * math.log(w), 60, start)
    for number, weight in enumerate(weights):
        expected = (1 - gain * k / share) ** number * math.log(start / fixed)
        assert math.log(weight / fixed) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("lag", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("difficulty", [0.02, 0.2, 2.0])
def test_one_setting_finds_the_weight_of_every_reward(difficulty: float, lag: float) -> None:
    """With rho = w / (w + c), c the reward's pull, the share is kept at w* = c share / (1 - share), behind a lag."""
    share = 0.95
    fixed = difficulty * share / (1 - share)
    weights = simulated(WeightTarget(share, 1.0, 0.01, 1000.0), lambda w: w / (w + difficulty), 2000, 5.0, lag)
    assert weights[-1] == pytest.approx(fixed, rel=0.02)


def test_the_weight_stays_within_its_bounds_and_leaves_them_at_once() -> None:
    """Catches in incentive/target.py: the bounds left out; the weight winds up beyond them; a fall without a limit."""
    target = WeightTarget(0.95, 1.0, 0.5, 20.0)
    weights = simulated(target, lambda w: 0.6, 100, 5.0)
    assert max(weights) == weights[-1] == 20.0
    assert weights[1] / weights[0] == pytest.approx(math.exp(0.2)), "no step is larger than this"
    assert target.adjusted(5.0, 1.5 * BASE, BASE) == pytest.approx(5 * math.exp(-0.2)), "down as well"
    assert target.adjusted(20.0, 0.97 * BASE, BASE) == pytest.approx(20 * math.exp(-0.02 / 0.95))
    assert min(simulated(target, lambda w: 1.5, 100, 5.0)) == 0.5


@pytest.mark.parametrize(("diversity", "base"), [(math.nan, 0.8), (0.5, math.nan), (0.5, 0.0), (math.inf, 0.8)])
def test_where_nothing_was_measured_the_weight_stays(diversity: float, base: float) -> None:
    """Catches in incentive/target.py: a weight of NaN after an iteration without scored images."""
    assert WeightTarget(0.95, 1.0, 0.1, 100.0).adjusted(7.0, diversity, base) == 7.0


def test_at_the_target_the_weight_stays() -> None:
    assert WeightTarget(0.75, 5.0, 0.1, 100.0).adjusted(7.0, 0.6, 0.8) == pytest.approx(7.0)
