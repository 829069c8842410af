"""Diversity of a set, against the reference implementation of the Vendi score, scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor
from vendi_score.vendi import score_K

from drift_pl.functional.diversity import (
    LARGE_KERNEL,
    cosine_kernel,
    distance_to_others,
    mean_nearest_distance,
    mean_pairwise_distance,
    rke_score,
    vendi_score,
)

# vendi_score reads scipy by a name that scipy has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")


def embeddings(generator: torch.Generator, *shape: int) -> Tensor:
    """Rows that are alike (a shared direction) and of very different lengths."""
    rows = torch.randn(*shape, generator=generator) + 1.5
    return rows * torch.rand(*shape[:-1], 1, generator=generator) * 10


def equicorrelated(size: int, similarity: float) -> Tensor:
    return torch.full((size, size), similarity, dtype=torch.float64).fill_diagonal_(1)


def test_the_kernel_is_the_cosine_similarity_of_rows_of_any_length(generator: torch.Generator) -> None:
    """Catches in functional/diversity.py: Vendi and distances on rows that are not normalised."""
    rows = embeddings(generator, 9, 5)
    expected = 1 - squareform(pdist(rows.double().numpy(), metric="cosine"))
    np.testing.assert_allclose(cosine_kernel(rows), expected, rtol=0, atol=1e-12)


def test_images_without_a_direction_are_alike() -> None:
    """Black images of an encoder that answers with zeros. Two of them and two orthogonal others are three modes.

    Catches in functional/diversity.py: equal images count as maximally different, and Vendi is NaN.
    """
    rows = torch.tensor([[0.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    kernel = cosine_kernel(rows)
    assert kernel.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert float(vendi_score(kernel, 0)) == pytest.approx(3)
    assert float(mean_pairwise_distance(1 - cosine_kernel(rows[:2]))) == 0
    valid_PG = torch.tensor([[True, False, True, True]])
    torch.testing.assert_close(distance_to_others(rows[None], valid_PG), torch.tensor([[1.0, 0.0, 1.0, 1.0]]))


@pytest.mark.parametrize(("order", "theirs"), [(0.5, 0.5), (1.0, 1), (2.0, 2), (3.0, 3), (float("inf"), "inf")])
def test_the_vendi_score_is_that_of_its_authors(order: float, theirs: float | str, generator: torch.Generator) -> None:
    """Oracle: vendi_score.vendi.score_K, on kernels of full rank (it has no tolerance for zero eigenvalues).

    Catches in functional/diversity.py: Vendi: entropy in bits under a natural exponent.
    """
    for size, width in ((8, 16), (LARGE_KERNEL, 256)):  # each of the two LAPACKs
        kernel = cosine_kernel(embeddings(generator, size, width))
        assert float(vendi_score(kernel, order)) == pytest.approx(score_K(kernel.numpy(), q=theirs), rel=1e-9)


def test_large_kernels_are_scored_in_batches_too(generator: torch.Generator) -> None:
    """Catches in functional/diversity.py: Vendi: eigenvalues of a batch of large kernels taken from the first."""
    kernels = cosine_kernel(torch.randn(2, 3, LARGE_KERNEL, 32, generator=generator))
    together = vendi_score(kernels)
    assert together.shape == (2, 3)
    torch.testing.assert_close(together[1, 2], vendi_score(kernels[1, 2]), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("similarity", "order_one", "order_two"),
    [(0.5, 4.64899, 2.90909), (0.8, 2.23504, 1.45985), (0.9, 1.59517, 1.19940), (0.95, 1.30319, 1.09327)],
)
def test_eight_equally_similar_images_have_the_published_scores(
    similarity: float, order_one: float, order_two: float
) -> None:
    """Oracle: eigenvalues (1 + 7 s) / 8 once and (1 - s) / 8 seven times."""
    kernel = equicorrelated(8, similarity)
    weights = np.array([(1 + 7 * similarity) / 8] + [(1 - similarity) / 8] * 7)
    assert float(vendi_score(kernel)) == pytest.approx(np.exp(-(weights * np.log(weights)).sum()), rel=1e-10)
    assert float(vendi_score(kernel)) == pytest.approx(order_one, abs=1e-5)
    assert float(vendi_score(kernel, 2)) == pytest.approx(order_two, abs=1e-5)
    assert float(vendi_score(kernel, float("inf"))) == pytest.approx(1 / weights[0], rel=1e-10)


@pytest.mark.parametrize("order", [0.0, 0.1, 0.5, 1.0, 2.0, float("inf")])
def test_copies_count_once_and_orthogonal_images_count_in_full(order: float) -> None:
    """Catches in functional/diversity.py: rounding noise counted as rare modes."""
    assert float(vendi_score(torch.ones(6, 6), order)) == pytest.approx(1, abs=1e-9)
    assert float(vendi_score(torch.eye(6), order)) == pytest.approx(6, rel=1e-9)
    # two distinct images, three copies each: eigenvalues 1/2 twice; rounding noise must not count as rare modes
    rows = torch.tensor([[3.0, 1.0, 2.0], [1.0, -1.0, -1.0]]).repeat_interleave(3, dim=0)
    assert float(vendi_score(cosine_kernel(rows), order)) == pytest.approx(2, rel=1e-6)


def test_order_two_is_rke(generator: torch.Generator) -> None:
    """Oracle: n^2 / sum of squared similarities, without eigenvalues."""
    kernel = cosine_kernel(embeddings(generator, 5, 7, 12))
    torch.testing.assert_close(vendi_score(kernel, 2), 49 / kernel.square().sum((-2, -1)), rtol=1e-10, atol=0)


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0, float("inf")])
def test_a_batch_of_sets_is_the_sets_one_by_one(order: float, generator: torch.Generator) -> None:
    kernel = cosine_kernel(embeddings(generator, 3, 4, 6, 8))
    together = vendi_score(kernel, order)
    assert together.shape == (3, 4)
    for row in range(3):
        for column in range(4):
            torch.testing.assert_close(together[row, column], vendi_score(kernel[row, column], order))


def test_the_mean_pairwise_distance_is_scipys(generator: torch.Generator) -> None:
    rows = embeddings(generator, 4, 7, 5)
    ours = mean_pairwise_distance(1 - cosine_kernel(rows))
    theirs = [pdist(group.double().numpy(), metric="cosine").mean() for group in rows]
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_a_pairwise_distance_ignores_the_diagonal() -> None:
    """Off-diagonal entries 1, 2, 3, each twice: mean 2, whatever the diagonal holds."""
    distance = torch.tensor([[9.0, 1.0, 2.0], [1.0, 9.0, 3.0], [2.0, 3.0, 9.0]])
    assert float(mean_pairwise_distance(distance)) == 2
    with pytest.raises(ValueError, match="at least two images"):
        mean_pairwise_distance(torch.zeros(1, 1))


def test_distance_to_others_is_the_row_mean_of_scipys_distances(generator: torch.Generator) -> None:
    """Catches in functional/diversity.py: an image counts as its own neighbour."""
    rows = embeddings(generator, 3, 6, 4)
    ours = distance_to_others(rows)
    for group in range(3):
        table = squareform(pdist(rows[group].double().numpy(), metric="cosine"))
        np.testing.assert_allclose(ours[group], table.sum(1) / 5, rtol=0, atol=1e-7)  # returned in float32


def test_distances_hold_within_a_group_only() -> None:
    """Two groups of copies, far from each other: zero distance in both."""
    rows = torch.tensor([[[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3])
    torch.testing.assert_close(distance_to_others(rows), torch.zeros(2, 3))


def test_invalid_images_neither_have_nor_give_distance(generator: torch.Generator) -> None:
    """Oracle: scipy on the valid rows alone; the invalid ones hold NaN.

    Catches in functional/diversity.py: invalid images counted as neighbours.
    """
    rows = embeddings(generator, 2, 5, 4)
    valid = torch.tensor([[True, False, True, True, False], [False, False, True, False, False]])
    rows[~valid] = torch.nan
    ours = distance_to_others(rows, valid)
    table = squareform(pdist(rows[0, valid[0]].double().numpy(), metric="cosine"))
    np.testing.assert_allclose(ours[0, valid[0]], table.sum(1) / 2, rtol=0, atol=1e-7)
    assert torch.equal(ours[~valid], torch.zeros(6))
    assert torch.equal(ours[1], torch.zeros(5))  # one valid image has no other


def test_rke_is_the_authors_vendi_score_of_order_two(generator: torch.Generator) -> None:
    """Catches in functional/diversity.py: RKE without its square; S for its square."""
    kernels = cosine_kernel(embeddings(generator, 3, 8, 16))
    expected = [score_K(kernel.numpy(), q=2) for kernel in kernels]
    np.testing.assert_allclose(rke_score(kernels), expected, rtol=1e-10)
    assert float(rke_score(equicorrelated(8, 0.8))) == pytest.approx(8 / (1 + 7 * 0.64), rel=1e-12)
    assert float(rke_score(torch.ones(6, 6))) == 1


def test_the_mean_nearest_distance_ignores_the_diagonal() -> None:
    """Row minima 1, 1 and 2, whatever the diagonal holds: mean 4 / 3. In the other set every image has a copy."""
    distance = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, -9.0]])
    assert float(mean_nearest_distance(distance)) == pytest.approx(4 / 3)
    copies = 2 - 2 * torch.eye(2).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert float(mean_nearest_distance(copies)) == 0
    with pytest.raises(ValueError, match="at least two images"):
        mean_nearest_distance(torch.zeros(1, 1))


def test_the_mean_nearest_distance_is_scipys(generator: torch.Generator) -> None:
    rows = embeddings(generator, 4, 7, 5)
    tables = [squareform(pdist(group.double().numpy(), metric="cosine")) for group in rows]
    expected = [np.mean([np.delete(row, place).min() for place, row in enumerate(table)]) for table in tables]
    np.testing.assert_allclose(mean_nearest_distance(1 - cosine_kernel(rows)), expected, rtol=1e-10)
