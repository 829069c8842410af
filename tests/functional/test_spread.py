"""The mean over pairs from the spread around the mean. Oracle: scipy's squared distance of every pair, in float64.

Catches in functional/spread.py: divided by n instead of n - 1; parts merged without the distance of their means;
    merged mean weighted by the wrong count; summed over positions instead of averaged.
"""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch import Tensor

from drift_pl.functional.spread import PairSpread


def spread_of(rows: Tensor, size: int) -> Tensor:
    spread = PairSpread()
    for part in rows.clone().split(size):
        spread.add(part)
    return spread.mean_over_pairs()


def pairs_of(rows: Tensor) -> np.ndarray:
    """By channel: the mean over pairs of the squared distance, over positions."""
    area = rows.shape[-2] * rows.shape[-1]
    channels = rows.double().flatten(2).unbind(1)
    return np.array([pdist(channel.numpy(), "sqeuclidean").mean() / area for channel in channels])


@pytest.mark.parametrize("size", [1, 3, 4, 13])
def test_it_is_the_mean_over_pairs_however_the_rows_arrive(size: int, generator: torch.Generator) -> None:
    """Of a population far from zero, as features of rectified layers are; float32 rounds to 6e-8."""
    rows = 3 + torch.randn(13, 5, 4, 6, generator=generator)
    torch.testing.assert_close(spread_of(rows, size).numpy(), pairs_of(rows), rtol=2e-6, atol=0)


@pytest.mark.parametrize("apart", [1.0, 1e-2, 1e-4, 1e-6])
def test_rows_that_are_nearly_alike_keep_the_stated_error(apart: float, generator: torch.Generator) -> None:
    """Oracle: the same rows before float32 has rounded them."""
    rows = torch.rand(1, 8, 6, 6, generator=generator) + apart * torch.randn(24, 8, 6, 6, generator=generator).double()
    exact, scale = pairs_of(rows), rows.square().mean((0, 2, 3)).numpy()
    error = np.abs(spread_of(rows.float(), 7).numpy() - exact)
    assert (error <= 1e-6 * (exact + np.sqrt(exact * scale))).all()


def test_equal_rows_have_no_distance_and_one_row_has_none() -> None:
    row = torch.rand(1, 3, 4, 4)
    assert spread_of(row.repeat(8, 1, 1, 1), 4).abs().max() < 1e-13
    with pytest.raises(ValueError, match="two images"):
        spread_of(row, 1)
