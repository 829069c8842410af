"""Distances between sets of embeddings, against scipy's matrix root, torchmetrics' FID and KID, and double loops.

Catches in functional/distribution.py: covariance / n; trace for nuclear norm; not centred; biased MMD; gamma ignored.
"""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from drift_pl.functional import distribution
from drift_pl.functional.distribution import frechet_distance, kernel_distance


class Given(torch.nn.Module):
    """Replaces the network in torchmetrics' classes: features are precomputed."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, rows: Tensor) -> Tensor:
        return rows


def two_sets(generator: torch.Generator, first: int, second: int, channels: int) -> tuple[Tensor, Tensor]:
    """Correlated rows of two different Gaussians."""
    mixing = torch.randn(2, channels, channels, generator=generator, dtype=torch.float64)
    rows = torch.randn(first + second, channels, generator=generator, dtype=torch.float64)
    return rows[:first] @ mixing[0] + 0.3, rows[first:] @ mixing[1]


def frechet_by_root(first: np.ndarray, second: np.ndarray) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), as FID is defined."""
    covariances = [np.cov(rows, rowvar=False) for rows in (first, second)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    shift = first.mean(0) - second.mean(0)
    return float(shift @ shift + np.trace(covariances[0] + covariances[1] - 2 * root))


@pytest.mark.parametrize(("first", "second"), [(40, 40), (60, 25)])
def test_the_frechet_distance_is_that_of_its_definition_and_of_torchmetrics(
    first: int, second: int, generator: torch.Generator
) -> None:
    ours, base = two_sets(generator, first, second, 6)
    value = float(frechet_distance(ours, base))
    assert value == pytest.approx(frechet_by_root(ours.numpy(), base.numpy()), rel=1e-9)
    theirs = FrechetInceptionDistance(feature=Given(6))
    theirs.update(base, real=True)
    theirs.update(ours, real=False)
    assert value == pytest.approx(float(theirs.compute()), rel=1e-9)
    assert value > 1


def test_fewer_images_than_channels_have_a_frechet_distance_too(generator: torch.Generator) -> None:
    """Covariances of rank 7 and 4 in 32 channels; eigenvalues that should be zero cost torchmetrics precision."""
    ours, base = two_sets(generator, 8, 5, 32)
    theirs = FrechetInceptionDistance(feature=Given(32))
    theirs.update(base, real=True)
    theirs.update(ours, real=False)
    assert float(frechet_distance(ours, base)) == pytest.approx(float(theirs.compute()), rel=1e-5)


def test_frechet_distances_in_closed_form(generator: torch.Generator) -> None:
    """A shift by c: |c|^2. Rows scaled by 3 about their mean: (3 - 1)^2 tr C. A set and itself: 0."""
    rows = torch.randn(30, 4, generator=generator)
    shift = torch.tensor([1.0, -2.0, 0.0, 0.5])
    assert float(frechet_distance(rows + shift, rows)) == pytest.approx(5.25, rel=1e-5)
    stretched = rows.mean(0) + 3 * (rows - rows.mean(0))
    assert float(frechet_distance(stretched, rows)) == pytest.approx(4 * float(rows.var(0).sum()), rel=1e-5)
    assert 0 <= float(frechet_distance(rows, rows)) < 1e-12
    assert float(frechet_distance(rows, rows.flip(0))) < 1e-12


@pytest.mark.parametrize("gamma", [None, 1.0])
@pytest.mark.parametrize(("first", "second"), [(9, 9), (7, 12)])
def test_the_kernel_distance_is_a_double_loop(
    first: int, second: int, gamma: float | None, generator: torch.Generator
) -> None:
    """Gretton et al. 2012, lemma 6: pairs of different images within a set, all pairs across."""
    ours, base = (rows.numpy() for rows in two_sets(generator, first, second, 5))

    def mean_kernel(rows: np.ndarray, columns: np.ndarray, skip_itself: bool) -> float:
        values = []
        for i, x in enumerate(rows):
            for j, y in enumerate(columns):
                if not (skip_itself and i == j):
                    values.append(((1 / 5 if gamma is None else gamma) * float(x @ y) + 1) ** 3)
        return float(np.mean(values))

    expected = mean_kernel(ours, ours, True) + mean_kernel(base, base, True) - 2 * mean_kernel(ours, base, False)
    value = kernel_distance(torch.from_numpy(ours), torch.from_numpy(base), gamma=gamma)
    assert float(value) == pytest.approx(expected, rel=1e-9)
    assert value.dtype == torch.float64


def test_paired_sets_leave_their_pairs_out(generator: torch.Generator) -> None:
    """Oracle: a double loop over i != j in all three sums; a set and itself are at 0."""
    ours, base = (rows.double() for rows in two_sets(generator, 9, 9, 5))

    def mean_kernel(rows: torch.Tensor, columns: torch.Tensor) -> float:
        return float(np.mean([(float(rows[i] @ columns[j]) + 1) ** 3 for i in range(9) for j in range(9) if i != j]))

    expected = mean_kernel(ours, ours) + mean_kernel(base, base) - 2 * mean_kernel(ours, base)
    assert float(kernel_distance(ours, base, gamma=1.0, paired=True)) == pytest.approx(expected, rel=1e-9)
    assert float(kernel_distance(ours, ours, gamma=1.0, paired=True)) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="paired sets must be of equal size, not 9 and 7"):
        kernel_distance(ours, base[:7], paired=True)


def test_models_that_share_their_noise_need_the_paired_form(generator: torch.Generator) -> None:
    """Equal marginals, correlated rows: unbiased when paired, below zero by many standard errors when not."""
    first, own = torch.randn(2, 400, 12, 6, generator=generator)
    second = 0.8 * first + 0.6 * own
    for paired, centred in ((True, True), (False, False)):
        pairs = zip(first, second, strict=True)
        values = torch.stack([kernel_distance(*pair, gamma=0.2, paired=paired) for pair in pairs])
        assert (abs(float(values.mean())) < 4 * float(values.std()) / 20) == centred
    assert float(values.mean()) < 0


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save all extracted features:UserWarning")
@pytest.mark.parametrize("gamma", [None, 1.0])
def test_the_kernel_distance_is_torchmetrics_with_one_subset_of_all_images(
    gamma: float | None, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, base = two_sets(generator, 20, 20, 6)
    theirs = KernelInceptionDistance(feature=Given(6), subsets=1, subset_size=20, gamma=gamma)
    theirs.update(base, real=True)
    theirs.update(ours, real=False)
    expected = float(theirs.compute()[0])
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert float(kernel_distance(ours, base, gamma=gamma)) == pytest.approx(expected, rel=1e-9)
    assert torch.equal(torch.get_rng_state(), before[0])  # nothing is drawn
    assert np.array_equal(np.random.get_state()[1], before[1])
    monkeypatch.setattr(distribution, "ROWS_PER_BLOCK", 7)
    assert float(kernel_distance(ours, base, gamma=gamma)) == pytest.approx(expected, rel=1e-9)


def test_equal_distributions_are_at_distance_zero_on_average(generator: torch.Generator) -> None:
    """Unbiased: over 400 pairs of samples the mean lies within four of its standard errors, some values below zero."""
    rows = torch.nn.functional.normalize(torch.randn(400, 2, 12, 6, generator=generator), dim=-1)
    values = torch.stack([kernel_distance(*pair, gamma=1.0) for pair in rows])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 20
    assert float(values.min()) < 0


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_one_image_is_no_distribution(distance: object) -> None:
    with pytest.raises(ValueError, match="at least two embeddings of each"):
        distance(torch.zeros(3, 2), torch.zeros(1, 2))  # type: ignore[operator]
