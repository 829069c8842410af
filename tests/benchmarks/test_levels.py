"""Protocol 2's gain at a level of reward, its p-values and its rule for lengths."""

import math
import os

import numpy as np
import pytest
from levels import _with_reasons, diversity_at, gains_at, holm, level_gain, level_of, one_length, p_value
from scipy import stats
from simulated_studies import STUDIES, Study

from drift_pl.functional.fronts import NoOverlap
from drift_pl.functional.intervals import Interval, t_quantile

FRONT = np.array([[0.0, 1.0], [0.4, 0.7], [0.3, 0.5], [1.0, 0.1]])
"""The third point is dominated by the second."""


def runs(scale_S: np.ndarray, reach_S: np.ndarray | float = 1.0, prompts: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The front from (0, 1) to (1, 0.5) for all seeds, and the same at `scale_S` times its diversity, [S, 2, P, 2].

    The method's last reward is `reach_S`.
    """
    points_K2 = np.array([[0.0, 1.0], [1.0, 0.5]])
    baseline = np.broadcast_to(points_K2[None, :, None], (len(scale_S), 2, prompts, 2))
    method = np.stack([baseline[..., 0], baseline[..., 1] * scale_S[:, None, None]], -1)
    method[:, 1, :, 0] *= np.broadcast_to(reach_S, len(scale_S))[:, None]
    return baseline, method


@pytest.mark.parametrize(
    ("reward", "expected"), [(-1.0, 1.0), (0.0, 1.0), (0.2, 0.85), (0.4, 0.7), (0.7, 0.4), (1.0, 0.1), (1.1, math.nan)]
)
def test_diversity_at_a_reward_is_read_off_the_lines(reward: float, expected: float) -> None:
    """By hand. Below its first point a front has that point's diversity: the excess may be given away.

    Catches in benchmarks/fronts/levels.py: dominated points on the front; a front extended beyond its last point.
    """
    together = np.stack([FRONT, FRONT[::-1]])
    assert diversity_at(together, reward) == pytest.approx(np.array([expected] * 2), nan_ok=True)


def test_the_level_is_a_share_of_what_the_averaged_baseline_gains() -> None:
    """Mean rewards 2, 5, 4 above: the highest counts, and not the last; missing values do not.

    Catches in benchmarks/fronts/levels.py: the last reward; a share of the reward itself.
    """
    reward_SKP = np.array([[[1.0, 3.0], [4.0, 4.0], [5.0, 3.0]], [[2.0, 2.0], [6.0, np.nan], [4.0, 4.0]]])
    baseline = np.stack([reward_SKP, np.ones_like(reward_SKP)], -1)
    assert level_of(baseline) == pytest.approx(2 + 0.75 * 3)
    with pytest.raises(NoOverlap, match="the baseline gains no reward"):
        level_of(baseline[:, :1])


def test_a_gain_at_a_level_has_the_t_interval_of_its_logarithm() -> None:
    """Seeds that have c_s times the diversity at every reward; no prompt differs from another. Oracle: scipy.

    The single seeds' mean log is below the log of the mean, by a bias whose quarter the interval is extended by.
    """
    scale_S = np.array([1.1, 1.2, 1.5, 1.3, 1.6])
    gain = level_gain(*runs(scale_S), seed=0)
    logs, centre = np.log(scale_S), math.log(scale_S.mean())
    reach = stats.t.ppf(0.975, 4) * logs.std(ddof=1) / math.sqrt(5)
    assert (gain.level, gain.value) == pytest.approx((0.75, scale_S.mean() - 1))
    assert gain.low == pytest.approx(math.exp(centre - reach) - 1)
    assert gain.high == pytest.approx(math.exp(centre + reach + (centre - logs.mean()) / 4) - 1)
    assert gain.reason is None


def test_a_level_that_is_not_reached_is_said() -> None:
    """By the average; by one seed of four; by a third of the resamplings of four prompts.

    Catches in benchmarks/fronts/levels.py: seeds that do not reach the level left out; resamplings left out.
    """
    scale_S = np.array([1.1, 1.2, 1.3, 1.2])
    gain = level_gain(*runs(scale_S, 0.7), seed=0)
    assert (gain.value, gain.low, gain.reason) == (None, None, "not reached")
    gain = level_gain(*runs(scale_S, np.array([1.0, 1.0, 0.7, 1.0])), seed=0)
    assert gain.value is not None
    assert (gain.low, gain.reason) == (None, "not reached by 1 of 4 seeds")
    baseline, method = runs(scale_S, 0.7)
    method[:, 1, 0, 0] = 1.2  # the average over prompts is 0.825; without this prompt, 0.7
    gain = level_gain(baseline, method, seed=0)
    assert gain.value is not None
    assert gain.low is None
    assert gain.reason in [f"not reached in {share} % of the resamplings" for share in range(27, 37)], "(3/4)^4"


def test_few_resamplings_that_do_not_reach_it_are_the_worst_and_not_left_out() -> None:
    """Four of 32 prompts carry the method over the level: 1.4 % of the resamplings, (28/32)^32, have none of them.

    Catches in benchmarks/fronts/levels.py: no interval for as few as that.
    """
    baseline, method = runs(np.array([1.1, 1.2, 1.3, 1.2]), 0.74, prompts=32)
    method[:, 1, :4, 0] = 1.2
    gain = level_gain(baseline, method, seed=0)
    assert gain.reason is None
    assert gain.low is not None
    assert -0.9 < gain.low < gain.value < gain.high


@pytest.mark.parametrize(("unreached", "reason"), [(0.025, None), (0.026, "not reached in 3 % of the resamplings")])
def test_one_resampling_in_forty_may_stay_below_the_level(unreached: float, reason: str | None) -> None:
    """Catches in benchmarks/fronts/levels.py: another share than the protocol's `gains.unreached`."""
    gain = _with_reasons(0.75, Interval(0.1, 0.05, 0.15, 3, (0.1, 0.1, 0.1)), unreached)
    assert (gain.low, gain.reason) == (0.05 if reason is None else None, reason)


def test_a_p_value_is_that_of_the_t_test_whose_interval_it_is_found_from() -> None:
    """Oracle: scipy. Catches in benchmarks/fronts/levels.py: one-sided; the level instead of what is beyond it."""
    values = np.array([0.3, 0.1, 0.2, 0.25, -0.05])

    def low_at(level: float) -> float:
        reach = t_quantile((1 + level) / 2, 4) * values.std(ddof=1) / math.sqrt(5)
        return values.mean() - reach

    assert p_value(low_at) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=5e-4)
    assert p_value(lambda level: None) == 1
    assert p_value(lambda level: -1.0) == 1
    assert 0.001 <= p_value(lambda level: 1.0) < 0.0015, "what a thousand resamplings can tell apart"


def test_holms_adjustment_by_hand() -> None:
    """0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04, which may not be below the one before it.

    Catches in benchmarks/fronts/levels.py: Bonferroni; values that fall again; values in sorted order.
    """
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1, 1]
    assert holm([0.04]) == [0.04]


def test_the_length_is_the_first_look_near_the_best() -> None:
    """Means 1, 3.999, 4, 3.9995: the first within 0.002. Catches in benchmarks/fronts/levels.py: the best; the last."""
    reward_SK = np.array([[0.0, 3.9, 4.1, 4.0], [2.0, 4.098, 3.9, 3.999]])
    assert one_length([0, 8, 16, 24], reward_SK) == 8
    assert one_length([0, 8, 16, 24], reward_SK, tolerance=0.0001) == 16


def coverage(study: Study, studies: int, replicates: int) -> tuple[float, float]:
    """Share of intervals with both ends that cover the truth, and of studies without both."""
    points = [study.points(method) for method in (0, 1)]
    level = points[0][0, 0] + 0.75 * (points[0][:, 0].max() - points[0][0, 0])
    expected = float(gains_at(level)(*points))
    held = []
    for number in range(studies):
        numbers = np.random.default_rng([2602, number])
        gain = level_gain(*study.draw(numbers), seed=number, replicates=replicates)
        held.append(math.nan if gain.low is None or gain.high is None else gain.low <= expected <= gain.high)
    return float(np.nanmean(held)), float(np.isnan(held).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_coverage_at_a_level(name: str) -> None:
    """COVERAGE_STUDIES=300 python -m pytest -m slow -s -k coverage tests/benchmarks/test_levels.py

    The level is held where prompts or seeds that earn more or less move the front along it: what that adds is not in
    the estimate's own error, so that the intervals cover more than 95 %.
    """
    study = STUDIES[name]
    held, without = coverage(study, int(os.environ.get("COVERAGE_STUDIES", 300)), replicates=200)
    print(f"\n| {name} | {100 * held:.1f} | {100 * without:.1f} |")
    assert held >= 0.94


def test_coverage_at_a_level_in_brief() -> None:
    """A hundred studies: prompts that differ, seeds that differ."""
    held = [coverage(STUDIES[name], 50, replicates=100)[0] for name in ("seeds differ", "prompts differ")]
    assert np.mean(held) >= 0.95
