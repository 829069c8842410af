"""Windows and factors, by hand."""

import pytest
import torch

from drift_pl.functional.schedule import anneal_factor, sliding_window, warmup_factor, window_steps


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
    starts = [sliding_window(1, 6, 2, iteration, 1, 3)[0] for iteration in range(14)]
    assert starts == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 1, 1]
    assert sliding_window(1, 6, 2, 9, 1, 3) == (4, 5)


def test_a_stride_that_leaves_steps_over_returns_before_them() -> None:
    """[0, 10) in strides of 4: 0 to 3, 4 to 7, and 8 to 11 would not fit; a stride of 3 reaches the last step."""
    assert [sliding_window(0, 10, 4, iteration, 4, 1) for iteration in range(3)] == [
        (0, 1, 2, 3),
        (4, 5, 6, 7),
        (0, 1, 2, 3),
    ]
    assert [sliding_window(0, 10, 4, iteration, 3, 1)[-1] for iteration in range(4)] == [3, 6, 9, 3]


def test_a_sliding_window_of_the_whole_range_stays() -> None:
    assert {sliding_window(2, 6, 4, iteration, 3, 1) for iteration in range(10)} == {(2, 3, 4, 5)}


def test_the_sliding_window_is_the_same_on_every_process_and_after_resuming() -> None:
    """It depends on the iteration only, not on the global generators, which differ between processes."""
    torch.manual_seed(0)
    walk = [sliding_window(0, 8, 3, iteration, 2, 2) for iteration in range(20)]
    torch.manual_seed(1)
    assert [sliding_window(0, 8, 3, iteration, 2, 2) for iteration in reversed(range(20))] == walk[::-1]


@pytest.mark.parametrize(
    ("size", "stride", "every", "says"),
    [(0, 1, 1, "fit"), (5, 1, 1, "fit"), (2, 0, 1, "slide"), (2, 1, 0, "slide"), (2, -1, 1, "slide")],
)
def test_a_window_that_cannot_slide_is_refused(size: int, stride: int, every: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sliding_window(2, 6, size, 0, stride, every)
