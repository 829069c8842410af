"""Windows and factors, by hand."""

import pytest
import torch

from drift_pl.functional.schedule import anneal_factor, warmup_factor, window_steps


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
