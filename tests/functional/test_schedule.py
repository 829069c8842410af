"""Windows and factors, by hand."""

import itertools
import math

import pytest
import torch

from drift_pl.core.rng import make_generator
from drift_pl.functional.schedule import (
    anneal_factor,
    exponential_stay,
    lag_decay,
    linear_stay,
    moving_window,
    random_steps,
    warmup_factor,
    window_steps,
)


def sliding(first: int, end: int, size: int, iteration: int, stride: int, every: int) -> tuple[int, ...]:
    """A window that stays equally long everywhere."""
    return moving_window(first, end, size, iteration, stride, lambda start: every)


def test_windows_are_contiguous_inside_their_range_and_equally_likely() -> None:
    """Starts 1, 2, 3, 4 of a window of 3 in [1, 7): a quarter each, within 4 standard errors of 4,000 draws."""
    generator = torch.Generator().manual_seed(0)
    windows = [window_steps(1, 7, 3, generator) for _ in range(4000)]
    assert set(windows) == {(1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 6)}
    for window in set(windows):
        assert windows.count(window) / 4000 == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)


def test_a_window_of_the_whole_range_has_one_place() -> None:
    assert window_steps(0, 4, 4, torch.Generator()) == (0, 1, 2, 3)


@pytest.mark.parametrize("size", [0, 5])
def test_a_window_that_does_not_fit_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        window_steps(2, 6, size, torch.Generator())


def test_warmup_rises_linearly_and_stays() -> None:
    assert [warmup_factor(iteration, 4) for iteration in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warmup_factor(0, 0) == 1


def test_annealing_falls_linearly_to_zero_and_stays() -> None:
    assert [anneal_factor(iteration, 4) for iteration in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert anneal_factor(1000, 0) == 1


def test_the_window_slides_and_returns_by_hand() -> None:
    """A window of 2 in [1, 6), by 1 step every 3 iterations: it starts at 1, 2, 3, 4 and is back at iteration 12.

    Catches in functional/schedule.py: sliding window: `every` ignored; place not in strides; `first` left out.
    """
    starts = [sliding(1, 6, 2, iteration, 1, 3)[0] for iteration in range(14)]
    assert starts == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 1, 1]
    assert sliding(1, 6, 2, 9, 1, 3) == (4, 5)


def test_a_stride_that_leaves_steps_over_returns_before_them() -> None:
    """[0, 10) in strides of 4: 0 to 3, 4 to 7, and 8 to 11 would not fit; a stride of 3 reaches the last step."""
    assert [sliding(0, 10, 4, iteration, 4, 1) for iteration in range(3)] == [
        (0, 1, 2, 3),
        (4, 5, 6, 7),
        (0, 1, 2, 3),
    ]
    assert [sliding(0, 10, 4, iteration, 3, 1)[-1] for iteration in range(4)] == [3, 6, 9, 3]


def test_a_sliding_window_of_the_whole_range_stays() -> None:
    assert {sliding(2, 6, 4, iteration, 3, 1) for iteration in range(10)} == {(2, 3, 4, 5)}


def test_the_sliding_window_is_the_same_on_every_process_and_after_resuming() -> None:
    """It depends on the iteration only, not on the global generators, which differ between processes."""
    torch.manual_seed(0)
    walk = [sliding(0, 8, 3, iteration, 2, 2) for iteration in range(20)]
    torch.manual_seed(1)
    assert [sliding(0, 8, 3, iteration, 2, 2) for iteration in reversed(range(20))] == walk[::-1]


@pytest.mark.parametrize(
    ("size", "stride", "every", "says"),
    [(0, 1, 1, "fit"), (5, 1, 1, "fit"), (2, 0, 1, "slide"), (2, 1, 0, "slide"), (2, -1, 1, "slide")],
)
def test_a_window_that_cannot_slide_is_refused(size: int, stride: int, every: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sliding(2, 6, size, 0, stride, every)


@pytest.mark.parametrize("strategy", ["decay", "exp_decay"])
def test_a_window_stays_shorter_and_shorter_as_in_mixgrpo(strategy: str) -> None:
    """Oracle: MixGRPO's counter of iterations (arXiv 2507.21802, its sampling strategies), stepped one by one, with
    overlapping windows: 25 iterations at most, 6 at least, k 0.1 from step 3. That they start again as soon as they no
    longer fit is ours: MixGRPO's code goes on with windows that are cut off.

    Catches in functional/schedule.py: every place counted alike; floor for ceil.
    """

    def stay(start: int) -> int:
        if strategy == "decay":
            return linear_stay(start, 0, 12, 25, 6)
        return exponential_stay(start, 25, 0.1, 3)

    cursor, counter, expected = 0, 0, []
    for _ in range(400):
        expected.append(cursor)
        counter += 1
        if strategy == "decay":
            limit = max(6, int(25 * (1 - cursor / 12) + 6 * (cursor / 12)))
        else:
            limit = math.ceil(25 * math.exp(-0.1 * max(0, cursor - 3)))
        if counter >= limit:
            counter, cursor = 0, cursor + 1
        if cursor + 4 > 12:
            cursor = 0
    assert [moving_window(0, 12, 4, iteration, 1, stay)[0] for iteration in range(400)] == expected
    assert len({expected.count(start) for start in range(9)}) > 4, "the stays differ"


def test_random_steps_are_any_subset_equally_often() -> None:
    """Oracle: the 10 subsets of 2 of the steps 3 to 7, 2,000 draws: chi-squared of 9 degrees below 27.9 (p = 0.001).

    Catches in functional/schedule.py: a window in place of single steps; `first` left out.
    """
    draws = [random_steps(3, 8, 2, make_generator("window", 0, number)) for number in range(2000)]
    counts = {pair: draws.count(pair) for pair in itertools.combinations(range(3, 8), 2)}
    assert sum(counts.values()) == 2000
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 27.9
    with pytest.raises(ValueError, match="fit"):
        random_steps(3, 8, 6, make_generator("window", 0, 0))


def test_an_old_policy_is_kept_as_published() -> None:
    """Oracle: DiffusionNFT's two schedules, by hand: min(0.001 n, 0.5); and 0 until 75, then 0.0075 more up to 0.999.

    Catches in functional/schedule.py: the delay added; the bound a lower one.
    """
    one = {0: 0.0, 1: 0.001, 100: 0.1, 499: 0.499, 500: 0.5, 10_000: 0.5}
    assert {step: lag_decay(step, 0.001, 0.5, 0) for step in one} == pytest.approx(one)
    two = {0: 0.0, 74: 0.0, 75: 0.0, 76: 0.0075, 175: 0.75, 208: 0.9975, 209: 0.999, 5000: 0.999}
    assert {step: lag_decay(step, 0.0075, 0.999, 75) for step in two} == pytest.approx(two)
