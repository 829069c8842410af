"""Structural similarity of all pairs, against its formula written with scipy's filters, and closed forms."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import Tensor

from drift_pl.functional.similarity import structural_similarity


def ssim(first: np.ndarray, second: np.ndarray, window: int) -> float:
    """Wang et al. 2004, eq. 13, averaged over pixels and channels, in float64; borders are mirrored.

    `window` pixels of Gaussian weights; 11 have a standard deviation of 1.5 and smaller ones less in proportion.
    """
    offsets = np.arange(window) - (window - 1) / 2
    weights = np.exp(-0.5 * (offsets / (1.5 * window / 11)) ** 2)
    weights /= weights.sum()

    def blur(image: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(image, weights, axis=1, mode="mirror"), weights, axis=2, mode="mirror")

    mean_x, mean_y = blur(first), blur(second)
    var_x, var_y = blur(first**2) - mean_x**2, blur(second**2) - mean_y**2
    covariance = blur(first * second) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((luminance * (2 * covariance + c2) / (var_x + var_y + c2)).mean())


def textured(generator: torch.Generator, count: int, height: int, width: int) -> Tensor:
    """Images that share a pattern, each with its own noise."""
    pattern = torch.rand(3, height, width, generator=generator)
    return 0.5 * pattern + 0.5 * torch.rand(count, 3, height, width, generator=generator)


@pytest.mark.parametrize(
    ("height", "width", "window"), [(24, 32, 11), (16, 11, 11), (10, 16, 9), (8, 8, 7), (3, 40, 3), (2, 2, 1)]
)
def test_every_pair_has_the_index_of_its_formula(
    height: int, width: int, window: int, generator: torch.Generator
) -> None:
    """Images with a side below 11 pixels use the largest odd window that fits.

    Catches in functional/similarity.py: data range taken from the images; window not adapted to small images.
    """
    images = textured(generator, 4, height, width)
    ours = structural_similarity(images)
    assert ours.shape == (4, 4)
    pixels = images.double().numpy()
    for row in range(4):
        for column in range(4):
            theirs = ssim(pixels[row], pixels[column], window)
            # variances are differences of float32 squares, 6e-8 each, beside C2 = 9e-4
            assert float(ours[row, column]) == pytest.approx(theirs, abs=2e-4), (row, column)
    assert 0.05 < float(ours[0, 1]) < 0.95


def test_flat_images_differ_by_their_luminance_alone() -> None:
    """Closed form without variance: (2 a b + C1) / (a^2 + b^2 + C1), here of a = 0.2 and b = 0.8."""
    flat = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    expected = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert float(structural_similarity(flat)[0, 1]) == pytest.approx(expected, abs=1e-4)


def test_copies_are_alike_and_a_negative_is_the_opposite(generator: torch.Generator) -> None:
    image = torch.rand(1, 3, 16, 16, generator=generator)
    similarity = structural_similarity(torch.cat([image, image, 1 - image]))
    assert torch.equal(similarity.diagonal(), torch.ones(3))
    assert float(similarity[0, 1]) == pytest.approx(1, abs=1e-6)
    assert float(similarity[0, 2]) < -0.5
    assert torch.equal(similarity, similarity.T)


@pytest.mark.parametrize("pairs_per_pass", [1, 4, 100])
def test_how_many_pairs_are_filtered_at_once_changes_nothing(pairs_per_pass: int, generator: torch.Generator) -> None:
    images = textured(generator, 5, 16, 16)
    torch.testing.assert_close(
        structural_similarity(images, pairs_per_pass), structural_similarity(images), rtol=0, atol=1e-6
    )
    assert torch.equal(structural_similarity(images[:1]), torch.ones(1, 1))
