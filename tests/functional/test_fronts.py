"""Fronts and gains, against numbers computed by hand, numerical integration and moocore."""

from collections.abc import Callable

import moocore
import numpy as np
import pytest
from scipy.integrate import quad

from drift_pl.functional.fronts import (
    Array,
    Front,
    Gain,
    NoOverlap,
    Reached,
    diversity_ceiling,
    diversity_gain,
    diversity_gain_at,
    hypervolume,
    pareto_front,
    reward_gain,
    reward_gain_at,
)

# From the base model at reward 0 and diversity 1; the last point of each list is dominated.
A = pareto_front([0, 1, 2, 0.5], [1, 0.8, 0.4, 0.7])
B = pareto_front([3, 1, 0, 1], [0.5, 0.9, 1, 0.6])
MORE_DIVERSE = pareto_front([0, 1], [1.5, 1])


def random_front(numbers: np.random.Generator, size: int = 9) -> Front:
    """From (0, 1) down and to the right, with noise; rewards up to about 1, diversities down to about 0.3."""
    share = np.linspace(0, 1, size)
    return pareto_front(
        share + 0.05 * numbers.normal(size=size) * share, 1 - 0.7 * share**2 + 0.05 * numbers.normal(size=size) * share
    )


def area(x: Array, y: Array, low: float, high: float) -> float:
    """Numerical integral of the line through the points: scipy's quad, given the corners."""
    corners = x[(x > low) & (x < high)]
    return quad(lambda at: np.interp(at, x, y), low, high, points=corners if len(corners) else None, limit=200)[0]


def test_the_front_of_points_in_any_order() -> None:
    """(1, 5) is beaten by (2, 5), (2, 3) by (2, 5) and (4, 1) by (5, 1); (3, 4) is there twice.

    Catches in functional/fronts.py: points that tie are kept; best so far instead of best from here.
    """
    front = pareto_front([5, 2, 3, 1, 4, 2, 3], [1, 5, 4, 5, 1, 3, 4])
    assert front.reward_N.tolist() == [2, 3, 5]
    assert front.diversity_N.tolist() == [5, 4, 1]
    assert front.reward_N.dtype == np.float64


@pytest.mark.parametrize("seed", range(30))
def test_the_front_is_moocores(seed: int) -> None:
    """On a coarse grid, where points often share one coordinate or both."""
    numbers = np.random.default_rng(seed)
    points = numbers.integers(0, 12, size=(numbers.integers(1, 40), 2)) / 4
    front = pareto_front(*points.T)
    expected = np.unique(moocore.filter_dominated(points, maximise=True), axis=0)
    np.testing.assert_array_equal(np.stack([front.reward_N, front.diversity_N], 1), expected)


@pytest.mark.parametrize("points", [([], []), ([1, np.nan], [1, 2]), ([1, 2], [np.inf, 1])], ids=str)
def test_no_front_without_finite_points(points: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="a front needs"):
        pareto_front(*points)


def test_between_its_points_a_front_is_a_straight_line() -> None:
    """A quarter of the way from (1, 0.8) to (2, 0.4): (1.25, 0.7)."""
    assert A.reward_at(0.7) == pytest.approx(1.25)
    assert A.reward_at(0.4) == 2


@pytest.mark.parametrize("outside", [lambda: A.reward_at(0), lambda: A.reward_at(1.1)])
def test_outside_of_its_points_a_front_is_nothing(outside: Callable[[], float]) -> None:
    with pytest.raises(ValueError, match="outside the front, which spans"):
        outside()


def test_the_gains_of_a_front_worked_out_by_hand() -> None:
    """At rewards 0 to 2, where A ends:

        A: (1 + 0.8) / 2 + (0.8 + 0.4) / 2 = 1.5;  B, which has 0.7 at 2: (1 + 0.9) / 2 + (0.9 + 0.7) / 2 = 1.75

    At diversities 0.5, where B ends and A has reward 1.75, to 1:

        A: 0.3 (1.75 + 1) / 2 + 0.2 (1 + 0) / 2 = 0.5125;  B: 0.4 (3 + 1) / 2 + 0.1 (1 + 0) / 2 = 0.85

    and 0.5 x 10 more in raw reward, if all rewards are higher by 10.

    Catches in functional/fronts.py: rectangles instead of trapezoids; integral runs to the curve's end; integral from
    the curve's start; ratio upside down; -1 left out of the gain; union of the two ranges (extrapolation); upper end of
    the longer front; base reward not subtracted; ceiling not divided by the length.
    """
    assert diversity_gain(A, B) == Gain(pytest.approx(1.75 / 1.5 - 1), 0, 2)
    assert reward_gain(A, B, base_reward=0) == Gain(pytest.approx(0.85 / 0.5125 - 1), 0.5, 1)
    assert diversity_ceiling(A, B, base_diversity=1) == pytest.approx(2 / 1.5 - 1)
    far_a, far_b = (Front(front.reward_N + 10, front.diversity_N) for front in (A, B))
    assert diversity_gain(far_a, far_b) == Gain(pytest.approx(1.75 / 1.5 - 1), 10, 12)
    assert reward_gain(far_a, far_b, base_reward=10).value == pytest.approx(0.85 / 0.5125 - 1)
    assert reward_gain(far_a, far_b, base_reward=0).value == pytest.approx(5.85 / 5.5125 - 1)


def test_where_a_method_leaves_the_base_behind_the_interval_begins_later() -> None:
    """C has more of both than the base (0, 1), so its front begins at reward 0.5. At 0.5 to 2:

    A: 0.5 (0.9 + 0.8) / 2 + (0.8 + 0.4) / 2 = 1.025;  C, from (0.5, 1.2) to (2.5, 0.8): 1.5 (1.2 + 0.9) / 2 = 1.575
    """
    c = pareto_front([0, 0.5, 2.5], [1, 1.2, 0.8])
    assert diversity_gain(A, c) == Gain(pytest.approx(1.575 / 1.025 - 1), 0.5, 2)
    assert diversity_ceiling(A, c, base_diversity=1) == pytest.approx(1.5 / 1.025 - 1)


def test_the_gains_at_one_level_worked_out_by_hand() -> None:
    """B has diversity 0.7 at A's last reward, 2, where A has 0.4; at diversity 0.8 they have rewards 1.5 and 1."""
    assert diversity_gain_at(A, B, reward=2) == Reached(pytest.approx(0.7 / 0.4 - 1))
    assert reward_gain_at(A, B, diversity=0.8, base_reward=0) == Reached(pytest.approx(1.5 / 1 - 1))
    assert reward_gain_at(A, B, diversity=0.8, base_reward=0.5) == Reached(pytest.approx(1 / 0.5 - 1))


@pytest.mark.parametrize(
    ("ask", "reason", "at_least"),
    [
        (lambda: diversity_gain_at(B, A, 3), "never reaches reward 3: its front spans 0 to 2", None),
        # at diversity 0.4 A has reward 2; B, never below 0.5, has 3 already there
        (lambda: reward_gain_at(A, B, 0.4, 0), "stays above diversity 0.4: its front spans 0.5 to 1", 0.5),
        (lambda: reward_gain_at(MORE_DIVERSE, A, 1.2, 0), "never reaches diversity 1.2", None),
        (lambda: diversity_gain_at(A, B, 2.5), "not on the baseline's own front, which spans 0 to 2", None),
        (lambda: diversity_gain_at(A, B, -1), "not on the baseline's own front, which spans 0 to 2", None),
        (lambda: reward_gain_at(A, B, 1, 0), "nothing to compare with", None),
    ],
)
def test_a_level_that_is_not_reached_has_a_reason_and_no_gain(
    ask: Callable[[], Reached], reason: str, at_least: float | None
) -> None:
    """Catches in functional/fronts.py: lower bound from the wrong end."""
    reached = ask()
    assert reached.gain is None
    assert reason in str(reached.reason)
    assert reached.at_least == (at_least if at_least is None else pytest.approx(at_least))


@pytest.mark.parametrize("seed", range(10))
def test_the_integrals_are_exact(seed: int) -> None:
    """Fronts with different corners. Oracle: numerical integration."""
    numbers = np.random.default_rng(seed)
    a, b = random_front(numbers), random_front(numbers, size=6)
    gain = diversity_gain(a, b)
    ends = (max(a.reward_N[0], b.reward_N[0]), min(a.reward_N[-1], b.reward_N[-1]))
    areas = [area(front.reward_N, front.diversity_N, *ends) for front in (a, b)]
    assert (gain.low, gain.high) == ends
    assert gain.value == pytest.approx(areas[1] / areas[0] - 1, rel=1e-8)
    gain = reward_gain(a, b, base_reward=0.01)
    ends = (max(a.diversity_N[-1], b.diversity_N[-1]), min(a.diversity_N[0], b.diversity_N[0]))
    areas = [area(front.diversity_N[::-1], front.reward_N[::-1] - 0.01, *ends) for front in (a, b)]
    assert (gain.low, gain.high) == ends
    assert gain.value == pytest.approx(areas[1] / areas[0] - 1, rel=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_what_a_gain_must_be_whatever_the_front(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    a, b = random_front(numbers), random_front(numbers)
    for gain in (diversity_gain, lambda first, second: reward_gain(first, second, 0)):
        assert gain(a, a).value == pytest.approx(0, abs=1e-12)
        assert (1 + gain(a, b).value) * (1 + gain(b, a).value) == pytest.approx(1)
    assert diversity_gain(a, Front(a.reward_N, 1.3 * a.diversity_N)).value == pytest.approx(0.3)
    assert reward_gain(a, Front(1.3 * a.reward_N, a.diversity_N), base_reward=0).value == pytest.approx(0.3)
    # a point in the middle of a segment changes nothing
    middle = (a.reward_N[1:] + a.reward_N[:-1]) / 2
    more = (
        np.concatenate([a.reward_N, middle]),
        np.concatenate([a.diversity_N, np.interp(middle, a.reward_N, a.diversity_N)]),
    )
    assert diversity_gain(pareto_front(*more), b).value == pytest.approx(diversity_gain(a, b).value)


@pytest.mark.parametrize(
    ("rewards", "diversities"),
    [([2, 3], [0.4, 0.3]), ([5, 6], [0.9, 0.8]), ([1], [0.9])],
    ids=["touching in a point", "apart", "a single point"],
)
def test_fronts_without_a_common_interval_say_so(rewards: list[float], diversities: list[float]) -> None:
    lonely = pareto_front(rewards, diversities)
    message = f"reward in common: the baseline's front spans 0 to 2, the method's {rewards[0]} to {rewards[-1]}"
    with pytest.raises(NoOverlap, match=message):
        diversity_gain(A, lonely)
    with pytest.raises(NoOverlap, match=message):
        diversity_ceiling(A, lonely, 1)


def test_diversities_without_a_common_interval_say_so() -> None:
    with pytest.raises(
        NoOverlap, match=r"diversity in common: the baseline's front spans 0\.4 to 1, the method's 0\.1 "
    ):
        reward_gain(A, pareto_front([0, 1], [0.3, 0.1]), 0)


def test_the_rounding_of_one_point_is_no_interval() -> None:
    """Both contain the base model, at 0.3, one of them as 0.1 + 0.2.

    Catches in functional/fronts.py: rounding counts as an interval.
    """
    with pytest.raises(NoOverlap):
        diversity_gain(pareto_front([0.3, 0.4], [1, 0.5]), pareto_front([0.1, 0.1 + 0.2], [1.2, 1]))


def test_a_baseline_without_gain_of_its_own_is_no_denominator() -> None:
    """Catches in functional/fronts.py: denominator of 0 or less let through."""
    with pytest.raises(NoOverlap, match="nothing to compare with: the baseline's front spans 0.4 to 1"):
        reward_gain(A, B, base_reward=2.5)


def test_the_hypervolume_worked_out_by_hand() -> None:
    """A above (0, 0): 0 x 1 + 1 x 0.8 + 1 x 0.4 = 1.2, of 4 x 1; above (0.5, 0.2): 0.5 x 0.6 + 1 x 0.2 of 3.5 x 0.8.

    Catches in functional/fronts.py: points left of the base count negative; floor not subtracted; points below the
    floor count negative; volume not normalised by the floor.
    """
    assert hypervolume(A, base_reward=0, reward_bound=4, base_diversity=1) == pytest.approx(1.2 / 4)
    assert hypervolume(A, 0.5, 4, 1, floor=0.2) == pytest.approx(0.5 / 2.8)
    assert hypervolume(A, 0, 2, 1, floor=0.9) == 0
    assert hypervolume(pareto_front([2], [1]), 0, 2, 1) == 1


@pytest.mark.parametrize("seed", range(40))
def test_the_hypervolume_is_moocores(seed: int) -> None:
    """Points on all sides of the reference point."""
    numbers = np.random.default_rng(seed)
    points = numbers.normal(size=(numbers.integers(1, 30), 2))
    corner = numbers.normal(size=2)
    expected = moocore.hypervolume(points, corner, maximise=True)
    size = (6 - corner[0]) * (5 - corner[1])
    share = hypervolume(pareto_front(*points.T), corner[0], 6, 5, floor=corner[1])
    assert share * size == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("bound", "floor", "message"),
    [(1.9, 0, "a point's reward, 2, is above the bound 1.9"), (0, 0, "nothing to dominate"), (4, 1, "nothing to dom")],
)
def test_a_bound_that_bounds_nothing_is_refused(bound: float, floor: float, message: str) -> None:
    """Catches in functional/fronts.py: reward above the bound let through."""
    with pytest.raises(ValueError, match=message):
        hypervolume(A, 0, bound, 1, floor)
