"""Spectral clustering: known partitions, scipy's components, and the best normalized cut by exhaustive search."""

import itertools

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform
from scipy.stats import norm
from torch import Tensor

from drift_pl.functional.clusters import cluster_sizes, gaussian_affinity, image_clusters, spectral_clusters


def together(label_PG: Tensor | np.ndarray) -> np.ndarray:
    """The partition, independent of label names: bool [P, G, G], whether two images share a cluster."""
    label = np.asarray(label_PG)
    return label[..., :, None] == label[..., None, :]


def affinity_of(points: np.ndarray, sigma: float) -> Tensor:
    """Affinity by the Euclidean distance of points in the plane, [1, G, G]."""
    return gaussian_affinity(torch.from_numpy(squareform(pdist(points))), sigma)[None]


def blobs(sizes: tuple[int, ...], numbers: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points of spread 0.1 around corners at distances of 3 or more, shuffled, and where each belongs."""
    truth = numbers.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [5.0, 5.0]])
    return centres[truth] + 0.1 * numbers.normal(size=(len(truth), 2)), truth


def ring(count: int, radius: float) -> np.ndarray:
    angle = 2 * np.pi * np.arange(count) / count
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1)


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("sizes", [(4, 4, 4, 4), (12, 2, 1, 1), (9, 7), (1, 1, 1), (40, 12, 12)])
def test_separated_blobs_are_recovered(sizes: tuple[int, ...], numbers: np.random.Generator) -> None:
    """Oracles: how the points were made, and scipy's single linkage cut into as many clusters.

    Catches in functional/clusters.py: trailing eigenvectors; nearest starts.
    """
    points, truth = blobs(sizes, numbers)
    label = spectral_clusters(affinity_of(points, 0.5), len(sizes))
    assert label.dtype == torch.int64
    np.testing.assert_array_equal(together(label)[0], together(truth))
    np.testing.assert_array_equal(together(label)[0], together(fcluster(linkage(points), len(sizes), "maxclust")))


@pytest.mark.parametrize(
    "points",
    [
        np.concatenate([ring(16, 1.0), ring(40, 3.0)]),  # one inside the other: no straight line separates them
        np.concatenate([ring(45, 5.0), 20 + 0.1 * ring(3, 1.0)]),  # a crowd so wide that it outweighs three images
    ],
    ids=["rings", "crowd"],
)
def test_clusters_are_what_hangs_together_not_what_is_round(points: np.ndarray) -> None:
    """Oracle: scipy's connected components of the points nearer than 1.

    Catches in functional/clusters.py: not normalised by degrees; k-means on the affinity itself.
    """
    linked = squareform(pdist(points)) < 1
    count, truth = connected_components(linked)
    assert count == 2
    np.testing.assert_array_equal(together(spectral_clusters(affinity_of(points, 0.3), 2))[0], together(truth))


def test_a_hub_does_not_part_from_its_own() -> None:
    """A hub with 20 leaves that are connected only through it, beside 30 identical images.

    Row norms are the root of an image's degree: unscaled, the leaves lie nearer to the 30 than to the hub.
    """
    affinity = np.eye(51)
    affinity[0, 1:21] = affinity[1:21, 0] = 0.5
    affinity[21:, 21:] = 1
    _, truth = connected_components(affinity > 0)
    np.testing.assert_array_equal(together(spectral_clusters(torch.from_numpy(affinity)[None], 2))[0], together(truth))


@pytest.mark.parametrize("seed", range(8))
def test_every_image_is_nearest_to_the_mean_of_its_own_cluster(seed: int) -> None:
    """The fixed-point condition of k-means (Lloyd), on the rows that numpy computes for a structureless cloud."""
    weight = affinity_of(np.random.default_rng(seed).normal(size=(24, 3)), 0.8)
    scale = weight[0].sum(1).numpy() ** -0.5
    rows = np.linalg.eigh(scale[:, None] * weight[0].numpy() * scale)[1][:, -4:]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    label = spectral_clusters(weight, 4)[0].numpy()
    means = np.stack([rows[label == number].mean(0) for number in range(4)])
    np.testing.assert_array_equal(np.linalg.norm(rows[:, None] - means, axis=-1).argmin(1), label)


@pytest.mark.parametrize("seed", range(6))
def test_two_clusters_have_the_smallest_normalised_cut(seed: int) -> None:
    """Oracle: Shi and Malik's cut / volume + cut / volume of all 511 ways to split ten points in two."""
    numbers = np.random.default_rng(seed)
    points = numbers.normal(size=(10, 2)) * 0.5 + np.where(np.arange(10) < 4, 0.0, 2.0)[:, None]
    affinity = affinity_of(points, 0.7)
    weight = affinity[0].numpy()

    def normalised_cut(side: np.ndarray) -> float:
        cut = weight[side][:, ~side].sum()
        return cut / weight[side].sum() + cut / weight[~side].sum()

    sides = [np.array((True, *rest)) for rest in itertools.product([True, False], repeat=9)]
    best = min((side for side in sides if not side.all()), key=normalised_cut)
    np.testing.assert_array_equal(together(spectral_clusters(affinity, 2))[0], together(best))


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_the_images_does_not_matter(seed: int) -> None:
    """On a structureless cloud, where the partition depends on every detail."""
    numbers = np.random.default_rng(seed)
    points, order = numbers.normal(size=(24, 3)), numbers.permutation(24)
    plain = together(spectral_clusters(affinity_of(points, 0.8), 4))[0]
    np.testing.assert_array_equal(
        together(spectral_clusters(affinity_of(points[order], 0.8), 4))[0], plain[order][:, order]
    )


@pytest.mark.parametrize("copies", [(16,), (9, 7), (13, 2, 1)])
def test_copies_are_one_cluster_however_many_are_asked_for(copies: tuple[int, ...], generator: torch.Generator) -> None:
    """Copies that differ by an encoder's rounding, too: 1e-7 of a unit embedding."""
    distinct = torch.nn.functional.normalize(torch.randn(len(copies), 32, generator=generator), dim=-1)
    truth = torch.tensor([number for number, size in enumerate(copies) for _ in range(size)])
    exact = distinct[truth][None]
    rounded = exact + 1e-7 * torch.randn(exact.shape, generator=generator)
    for embedding in (exact, rounded):
        label = image_clusters(embedding, torch.ones(1, 16, dtype=torch.bool), 6, 0.2)
        np.testing.assert_array_equal(together(label)[0], together(truth))


def test_strangers_all_stand_alone_when_enough_clusters_are_asked_for() -> None:
    far = 100 * (1 - torch.eye(5))[None]
    assert cluster_sizes(spectral_clusters(gaussian_affinity(far, 1.0), 9)).tolist() == [[1] * 5]
    # fewer clusters than strangers: all partitions are equally good, but it must be one
    label = spectral_clusters(gaussian_affinity(far, 1.0), 3)
    assert 1 <= label.unique().numel() <= 3
    assert label.amin() >= 0
    assert spectral_clusters(gaussian_affinity(far, 1.0), 1).tolist() == [[0] * 5]


def test_invalid_images_are_left_out_and_groups_are_not_mixed(numbers: np.random.Generator) -> None:
    """Oracle: how the points were made, whatever the rows of the invalid images hold."""
    valid = torch.ones(3, 12, dtype=torch.bool)
    valid[0, [0, 5, 11]] = False
    valid[2] = False
    groups = [blobs((6, 4, 2), numbers) for _ in range(3)]
    affinity = torch.cat([affinity_of(points, 0.5) for points, _ in groups])
    affinity = torch.where(valid[:, :, None] & valid[:, None, :], affinity, torch.nan)
    label = spectral_clusters(affinity, 3, valid)
    assert torch.equal(label == -1, ~valid)
    for group in (0, 1):
        kept = valid[group].numpy()
        np.testing.assert_array_equal(together(label[group, kept]), together(groups[group][1][kept]))


def test_the_affinity_is_a_normal_density_over_its_peak() -> None:
    distance = torch.linspace(0, 2, 9, dtype=torch.float64)
    expected = norm.pdf(distance, scale=0.3) / norm.pdf(0, scale=0.3)
    np.testing.assert_allclose(gaussian_affinity(distance, 0.3), expected, rtol=1e-12)


def test_images_are_compared_by_the_cosine_at_the_scale_of_sigma() -> None:
    """Directions at 0, 8, 40 and 48 degrees, of any length; an invalid row of NaN between them."""
    angle = torch.deg2rad(torch.tensor([[0.0, 40.0, torch.nan, 8.0, 48.0]]))
    length = torch.tensor([[1.0, 20.0, 1.0, 7.0, 0.1]])
    embedding = torch.stack([angle.cos(), angle.sin()], -1) * length[..., None]
    label = image_clusters(embedding, torch.tensor([[True, True, False, True, True]]), 2, 0.1)
    assert label[0, 2] == -1
    assert label[0, 0] == label[0, 3]
    assert label[0, 1] == label[0, 4]
    assert label[0, 0] != label[0, 1]
    # in units of 1000 even 1 - cos 48 = 0.33 is negligible: all are duplicates
    valid = torch.ones(1, 4, dtype=torch.bool)
    assert image_clusters(embedding[:, [0, 1, 3, 4]], valid, 2, 1000.0).unique().numel() == 1


def test_sizes_count_the_images_of_each_cluster(numbers: np.random.Generator) -> None:
    """Oracle: numpy's unique, group by group; invalid images have none and count nowhere."""
    label = torch.from_numpy(numbers.integers(-1, 4, size=(5, 16)))
    sizes = cluster_sizes(label)
    for group in range(5):
        values, counts = np.unique(label[group], return_counts=True)
        table = dict(zip(values.tolist(), counts.tolist(), strict=True)) | {-1: 0}
        assert sizes[group].tolist() == [table[value] for value in label[group].tolist()]
