"""Deterministic normalized spectral clustering within a group, for up to about sixty images.

Ng, Jordan and Weiss, "On spectral clustering" (NeurIPS 2001): the rows of the leading eigenvectors of the normalized
affinity Deg^-1/2 W Deg^-1/2 (equivalently the trailing ones of the normalized Laplacian, I minus it), scaled to unit
length, are clustered by k-means. The first centre is the image of largest degree, each further one the image farthest
from all centres so far, followed by a fixed number of Lloyd iterations. The partition therefore depends on no seed and,
up to ties, not on the order of the images.
"""

import torch
from torch import Tensor

from drift_pl.functional.diversity import cosine_kernel

# Eigenvectors below this eigenvalue only separate duplicates, by rounding errors.
MIN_EIGENVALUE = 1e-6
# Squared distance below which two unit-length rows count as the same point.
SAME_POINT = 1e-12
LLOYD_STEPS = 20


def gaussian_affinity(distance_PGG: Tensor, sigma: float) -> Tensor:
    """W = exp(-D^2 / (2 sigma^2)), in (0, 1], elementwise; sigma > 0 has the unit of the distances."""
    return (-distance_PGG.square() / (2 * sigma**2)).exp()


def spectral_clusters(affinity_PGG: Tensor, num_clusters: int, valid_PG: Tensor | None = None) -> Tensor:
    """Cluster label of every image within its group.

    Args:
        affinity_PGG: symmetric, non-negative, with a positive diagonal; entries of invalid images may be NaN.
        num_clusters: k >= 1. A group with fewer distinct images gets fewer clusters; duplicates share a cluster.
        valid_PG: bool; invalid images are left out. None: all are valid.

    Returns:
        int64 [P, G]: arbitrary labels from 0, and -1 for invalid images.
    """
    if valid_PG is None:
        valid_PG = torch.ones(affinity_PGG.shape[:2], dtype=torch.bool, device=affinity_PGG.device)
    label_PG = torch.full(valid_PG.shape, -1, dtype=torch.int64, device=affinity_PGG.device)
    for group, valid_G in enumerate(valid_PG):
        index_N = valid_G.nonzero().squeeze(1)
        if len(index_N):
            affinity_NN = affinity_PGG[group, index_N][:, index_N].double()
            start = int(affinity_NN.sum(1).argmax())
            label_PG[group, index_N] = _k_means(_spectral_rows(affinity_NN, num_clusters), start, num_clusters)
    return label_PG


def image_clusters(embedding_PGD: Tensor, valid_PG: Tensor, num_clusters: int, sigma: float) -> Tensor:
    """Spectral clusters by the cosine distance D = 1 - cos, int64 [P, G]; see `spectral_clusters`.

    Args:
        embedding_PGD: embeddings; normalized here. Those of invalid images may be NaN.
        valid_PG: bool.
        num_clusters: k >= 1.
        sigma: scale of the affinity, > 0, in units of the cosine distance.
    """
    distance_PGG = 1 - cosine_kernel(embedding_PGD)
    return spectral_clusters(gaussian_affinity(distance_PGG, sigma), num_clusters, valid_PG)


def cluster_sizes(label_PG: Tensor) -> Tensor:
    """Number of images in each image's cluster, itself included, int64 [P, G]; 0 for invalid images (label -1)."""
    same_PGG = label_PG[:, :, None] == label_PG[:, None, :]
    return torch.where(label_PG >= 0, same_PGG.sum(-1), 0)


def _spectral_rows(affinity_NN: Tensor, num_clusters: int) -> Tensor:
    """Leading eigenvectors of the normalized affinity, one unit-length row per image: [N, at most k]."""
    scale_N = affinity_NN.sum(1).rsqrt()
    eigenvalue_N, eigenvector_NN = torch.linalg.eigh(scale_N[:, None] * affinity_NN * scale_N)
    tells_apart = eigenvalue_N[-num_clusters:] > MIN_EIGENVALUE
    return torch.nn.functional.normalize(eigenvector_NN[:, -num_clusters:][:, tells_apart], dim=-1)


def _k_means(rows_ND: Tensor, start: int, num_clusters: int) -> Tensor:
    """Lloyd's algorithm from farthest-point starts, int64 [N]."""
    centre_KD = rows_ND[start][None]
    while len(centre_KD) < num_clusters:
        nearest_N = _squared_distance(rows_ND, centre_KD).amin(1)
        if nearest_N.amax() < SAME_POINT:
            break
        centre_KD = torch.cat([centre_KD, rows_ND[nearest_N.argmax()][None]])
    for _ in range(LLOYD_STEPS):
        label_N = _squared_distance(rows_ND, centre_KD).argmin(1)
        member_NK = torch.nn.functional.one_hot(label_N, len(centre_KD)).to(rows_ND.dtype)
        # The centre of an empty cluster moves to the origin, equally far from all rows.
        centre_KD = member_NK.mT @ rows_ND / member_NK.sum(0)[:, None].clamp(min=1)
    return _squared_distance(rows_ND, centre_KD).argmin(1)


def _squared_distance(rows_ND: Tensor, centre_KD: Tensor) -> Tensor:
    return (rows_ND[:, None] - centre_KD).square().sum(-1)
