"""The diversity that one image adds to its group, against scipy, numpy and the Vendi score's own authors."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor
from vendi_score.vendi import score_K

from drift_pl.functional.diversity import distance_to_nearest, distance_to_others, logdet_gain, vendi_gain

# vendi_score reads scipy by a name that scipy has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")

PER_IMAGE = (distance_to_others, distance_to_nearest, logdet_gain, vendi_gain)


def embeddings(generator: torch.Generator, *shape: int) -> Tensor:
    """Rows that are alike (a shared direction) and of very different lengths."""
    rows = torch.randn(*shape, generator=generator) + 1.5
    return rows * torch.rand(*shape[:-1], 1, generator=generator) * 10


def masked_groups(generator: torch.Generator, width: int = 12) -> tuple[Tensor, Tensor]:
    """Four groups of six: all valid, four valid, one valid, none valid; the invalid rows hold NaN."""
    rows = embeddings(generator, 4, 6, width)
    valid = torch.ones(4, 6, dtype=torch.bool)
    valid[1, [0, 4]] = valid[2, 1:] = valid[3] = False
    rows[~valid] = torch.nan
    return rows, valid


def by_hand(rows: Tensor, valid: Tensor, value: Callable[[np.ndarray, int], float]) -> np.ndarray:
    """A loop over groups and images: value(unit rows of the valid images, index of the image among them)."""
    result = np.zeros(valid.shape)
    for group in range(len(rows)):
        members = np.flatnonzero(valid[group].numpy())
        alone = rows[group, valid[group]].double().numpy()
        unit = alone / np.linalg.norm(alone, axis=1, keepdims=True)
        for place, image in enumerate(members):
            if len(members) >= 2:
                result[group, image] = value(unit, place)
    return result


def test_distance_to_the_nearest_is_the_row_minimum_of_scipys(generator: torch.Generator) -> None:
    """Oracle: cdist on the valid rows, excluding the image itself.

    Catches in functional/diversity.py: nearest: itself counted; farthest; infinity for a lone image.
    """
    rows, valid = masked_groups(generator)
    expected = by_hand(rows, valid, lambda unit, i: np.delete(cdist(unit, unit, metric="cosine")[i], i).min())
    np.testing.assert_allclose(distance_to_nearest(rows, valid), expected, rtol=0, atol=1e-7)  # returned in float32
    assert expected[0].min() > 1e-3
    torch.testing.assert_close(distance_to_nearest(rows[:1]), distance_to_nearest(rows, valid)[:1])


def test_an_invalid_image_is_nobodys_nearest() -> None:
    """Opposite images with a missing one between them: 2, not the 1 to a row of zeros."""
    rows = torch.tensor([[[1.0, 0.0], [torch.nan, 0.0], [-1.0, 0.0]]])
    torch.testing.assert_close(distance_to_nearest(rows, rows[..., 0].isfinite()), torch.tensor([[2.0, 0.0, 2.0]]))


def slogdet_gain(unit: np.ndarray, place: int, ridge: float) -> float:
    """log det with the image minus log det without, where 0 is a group of copies and 1 one of orthogonal images."""

    def gain(kernel: np.ndarray) -> float:
        without = np.delete(np.delete(kernel, place, 0), place, 1)
        return logdet(kernel) - logdet(without)

    def logdet(kernel: np.ndarray) -> float:
        return np.linalg.slogdet(kernel + ridge * np.eye(len(kernel)))[1]

    lowest, highest = gain(np.ones((len(unit), len(unit)))), gain(np.eye(len(unit)))
    return (gain(unit @ unit.T) - lowest) / (highest - lowest)


@pytest.mark.parametrize("width", [3, 12])  # six images in three dimensions: K alone is singular
@pytest.mark.parametrize("ridge", [1e-4, 0.01, 1.0])
def test_the_logdet_gain_is_numpys_leave_one_out(ridge: float, width: int, generator: torch.Generator) -> None:
    """Catches in functional/diversity.py: logdet: sign; no ridge; diagonal of K and not of its inverse; float32."""
    rows, valid = masked_groups(generator, width)
    expected = by_hand(rows, valid, lambda unit, i: slogdet_gain(unit, i, ridge))
    # float32 result, and condition numbers up to 6 / ridge
    np.testing.assert_allclose(logdet_gain(rows, valid, ridge), expected, rtol=0, atol=1e-6)
    assert np.ptp(expected[0]) > 1e-2


def test_without_a_ridge_the_logdet_gain_is_twice_the_log_distance_to_the_span(generator: torch.Generator) -> None:
    """Oracle: the residual of numpy's least squares on the other images; the docstring's bounds undo the scale."""
    ridge, size = 1e-9, 5
    rows = embeddings(generator, 1, size, 8)
    unit = (rows[0] / rows[0].norm(dim=1, keepdim=True)).double().numpy()
    lowest = np.log(ridge * (size + ridge) / (size - 1 + ridge))
    gain = lowest + logdet_gain(rows, ridge=ridge).double().numpy()[0] * (np.log1p(ridge) - lowest)
    for image in range(size):
        others = np.delete(unit, image, 0).T
        coefficients = np.linalg.lstsq(others, unit[image])[0]
        distance = np.linalg.norm(unit[image] - others @ coefficients)
        assert gain[image] == pytest.approx(2 * np.log(distance), abs=1e-5)  # float32 times a scale of 20


def test_the_logdet_gain_of_two_images_by_hand() -> None:
    """det [[1 + r, c], [c, 1 + r]] / (1 + r), at c = 0.6, between its values at c = 1 and c = 0."""
    rows = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]])

    def gain(cosine: float, ridge: float) -> float:
        return math.log(((1 + ridge) ** 2 - cosine**2) / (1 + ridge))

    for ridge in (0.001, 0.1):
        expected = (gain(0.6, ridge) - gain(1, ridge)) / (gain(0, ridge) - gain(1, ridge))
        torch.testing.assert_close(logdet_gain(rows, ridge=ridge), torch.full((1, 2), expected))


@pytest.mark.parametrize(("order", "theirs"), [(1.0, 1), (2.0, 2), (0.5, 0.5)])
def test_the_vendi_gain_is_the_authors_score_with_and_without(
    order: float, theirs: float, generator: torch.Generator
) -> None:
    """Oracle: vendi_score.vendi.score_K in a loop, on kernels of full rank.

    Catches in functional/diversity.py: Vendi gain: sign; keeps only i; order ignored; not renormalised; NaN for empty
    groups.
    """
    rows, valid = masked_groups(generator)

    def leave_one_out(unit: np.ndarray, place: int) -> float:
        others = np.delete(unit, place, 0)
        return score_K(unit @ unit.T, q=theirs) - score_K(others @ others.T, q=theirs)

    expected = by_hand(rows, valid, leave_one_out)
    np.testing.assert_allclose(vendi_gain(rows, valid, order), expected, rtol=0, atol=1e-6)  # returned in float32
    assert np.ptp(expected[0]) > 1e-3


def test_one_more_copy_of_a_mode_may_cost_effective_images() -> None:
    """Three copies and an orthogonal image: exp H(3/4, 1/4) = 1.754766 with all, exp H(2/3, 1/3) = 1.889882, 1."""
    rows = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]])
    copy, loner = 1.754766 - 1.889882, 1.754766 - 1
    torch.testing.assert_close(vendi_gain(rows), torch.tensor([[copy, copy, loner, copy]]), rtol=0, atol=2e-6)


@pytest.mark.parametrize("measure", PER_IMAGE)
def test_copies_have_no_diversity_and_orthogonal_images_have_one(measure: Callable[..., Tensor]) -> None:
    """All identical is where dividing by a group's mean diversity is 0 / 0; so is a group of two, the rest NaN."""
    copies = torch.tensor([0.3, -2.0, 1.0, 0.5, 0.1]).expand(2, 5, 5).clone()
    copies[1, 2:] = torch.nan
    valid = copies.isfinite().all(-1)
    torch.testing.assert_close(measure(copies, valid), torch.zeros(2, 5), rtol=0, atol=1e-6)
    apart = torch.where(valid[..., None], 3 * torch.eye(5), torch.nan)
    torch.testing.assert_close(measure(apart, valid), valid.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("measure", PER_IMAGE)
def test_groups_are_apart_and_the_order_of_images_is_nothing(
    measure: Callable[..., Tensor], generator: torch.Generator
) -> None:
    rows, valid = masked_groups(generator)
    together = measure(rows, valid)
    assert together.dtype == torch.float32
    assert torch.equal(together[~valid], torch.zeros(13))
    assert torch.equal(together[2], torch.zeros(6))  # one valid image has no other
    for group in range(4):
        alone = measure(rows[group : group + 1], valid[group : group + 1])
        torch.testing.assert_close(together[group : group + 1], alone, rtol=0, atol=1e-6)
    order = torch.randperm(6, generator=generator)
    torch.testing.assert_close(measure(rows[:, order], valid[:, order]), together[:, order], rtol=0, atol=1e-6)
