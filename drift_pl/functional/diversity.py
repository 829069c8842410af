"""Diversity of the images of a group: pairwise distances, log-volume and Vendi score.

`distance_to_others`, `distance_to_nearest`, `logdet_gain` and `vendi_gain` are per image, relative to its group; they
are the potentials of the shaping lever, compared in `incentive/potentials.py`. The others are per set.
"""

import math

import numpy as np
import torch
from torch import Tensor

LARGE_KERNEL = 128
"""Images from which numpy finds eigenvalues faster than torch on a CPU (1.3 times as fast at 256)."""


def cosine_kernel(embedding_XSD: Tensor) -> Tensor:
    """Gram matrices of normalized embeddings, float64 [..., S, S], from [..., S, D]; unit diagonal.

    Embeddings of zeros, which have no direction, count as equal to one another and orthogonal to all others.
    """
    gram_XSS = _gram(embedding_XSD.double())
    # Normalizes S x S products in place of S x D features, of which there are more.
    square_XS = gram_XSS.diagonal(dim1=-2, dim2=-1)
    scale_XS, zero_XS = square_XS.clamp(min=torch.finfo(torch.float64).tiny).rsqrt(), (square_XS == 0).double()
    return gram_XSS * scale_XS[..., :, None] * scale_XS[..., None, :] + zero_XS[..., :, None] * zero_XS[..., None, :]


def distance_to_others(embedding_PGD: Tensor, valid_PG: Tensor | None = None) -> Tensor:
    """d_i = 1 - mean_{j != i} <e_i, e_j> over the valid images of the group, in [0, 2].

    Args:
        embedding_PGD: embeddings; normalized here.
        valid_PG: bool; invalid images count neither as i nor as j. None: all are valid.

    Returns:
        float32 [P, G]; 0 for invalid images and in groups with fewer than two valid ones.
    """
    kernel_PGG, pair_PGG = _valid_pairs(embedding_PGD, valid_PG)
    total_PG = torch.where(pair_PGG, 1 - kernel_PGG, 0).sum(-1)
    return (total_PG / pair_PGG.sum(-1).clamp(min=1)).float()


def distance_to_nearest(embedding_PGD: Tensor, valid_PG: Tensor | None = None) -> Tensor:
    """d_i = min_{j != i} 1 - <e_i, e_j> over the valid images of the group, in [0, 2] (GARDO, arXiv 2512.24138).

    Arguments and result as in `distance_to_others`.
    """
    kernel_PGG, pair_PGG = _valid_pairs(embedding_PGD, valid_PG)
    nearest_PG = torch.where(pair_PGG, 1 - kernel_PGG, torch.inf).amin(-1)
    return torch.where(pair_PGG.any(-1), nearest_PG, 0).float()


def logdet_gain(embedding_PGD: Tensor, valid_PG: Tensor | None = None, ridge: float = 0.01) -> Tensor:
    """Leave-one-out gain of an image in the log-volume of its group, scaled to [0, 1].

    With K the cosine kernel of the n valid images and K_{-i} the kernel without image i,

        g_i = log det(K + ridge I) - log det(K_{-i} + ridge I) = -log ((K + ridge I)^-1)_ii
            = log(ridge + min_c |e_i - sum_{j != i} c_j e_j|^2 + ridge |c|^2),

    the gain in log-likelihood of a determinantal point process (arXiv 1207.6083, sec. 2.2). For ridge -> 0 it is 2 log
    of the distance from e_i to the span of the others, minus infinity for a duplicate. Any ridge > 0 bounds it: the
    lowest value, if all images are duplicates, is log(ridge (n + ridge) / (n - 1 + ridge)); the highest, if e_i is
    orthogonal to all others, is log(1 + ridge). These bounds are mapped to 0 and 1. The ridge is the squared distance
    below which two images count as nearly equal.

    Arguments and result as in `distance_to_others`, and:

        ridge: > 0.
    """
    kernel_PGG, pair_PGG = _valid_pairs(embedding_PGD, valid_PG)
    identity = torch.eye(kernel_PGG.shape[-1], dtype=torch.float64, device=kernel_PGG.device)
    # An invalid image has a zero row, so only the ridge on its diagonal: a separate block that affects no other.
    factor_PGG = torch.linalg.cholesky(kernel_PGG + ridge * identity)
    gain_PG = -torch.cholesky_inverse(factor_PGG).diagonal(dim1=-2, dim2=-1).log()
    others_PG = pair_PGG.sum(-1).double().clamp(min=1)
    lowest_PG = (ridge * (others_PG + 1 + ridge) / (others_PG + ridge)).log()
    scaled_PG = (gain_PG - lowest_PG) / (math.log1p(ridge) - lowest_PG)
    return torch.where(pair_PGG.any(-1), scaled_PG, 0).float()


def vendi_gain(embedding_PGD: Tensor, valid_PG: Tensor | None = None, order: float = 1.0) -> Tensor:
    """VS(all valid images) - VS(all but i), in effective number of images: at most 1, for one orthogonal to all others.

    A further copy of an existing mode adds nothing and may reduce the score: the gain is negative if the modes are more
    evenly populated without the image.

    Arguments and result as in `distance_to_others`, and:

        order: q >= 0 of `vendi_score`.
    """
    kernel_PGG, pair_PGG = _valid_pairs(embedding_PGD, valid_PG)
    stays_GG = ~torch.eye(kernel_PGG.shape[-1], dtype=torch.bool, device=kernel_PGG.device)
    # entry i leaves out image i; one batched call, because call overhead dominates small eigenvalue problems
    without_PGGG = kernel_PGG[:, None] * (stays_GG[:, :, None] & stays_GG[:, None, :])
    score_PX = vendi_score(torch.cat([kernel_PGG[:, None], without_PGGG], dim=1), order)
    return torch.where(pair_PGG.any(-1), score_PX[:, :1] - score_PX[:, 1:], 0).float()


def mean_pairwise_distance(distance_XSS: Tensor) -> Tensor:
    """Mean over the S (S - 1) / 2 pairs of a symmetric distance matrix: [..., S, S] -> [...].

    A U-statistic: unbiased for every S, unlike the Vendi score.

    Raises:
        ValueError: S is less than 2.
    """
    num_images = distance_XSS.shape[-1]
    if num_images < 2:
        raise ValueError("a pairwise distance needs at least two images")
    off_diagonal = distance_XSS.sum((-2, -1)) - distance_XSS.diagonal(dim1=-2, dim2=-1).sum(-1)
    return off_diagonal / (num_images * (num_images - 1))


def mean_nearest_distance(distance_XSS: Tensor) -> Tensor:
    """Mean over S images of the distance to the nearest other: [..., S, S] -> [...], in the unit of the distance.

    Zero if every image has a duplicate, regardless of the number of modes. Falls with S: compare at equal S only.

    Raises:
        ValueError: S is less than 2.
    """
    num_images = distance_XSS.shape[-1]
    if num_images < 2:
        raise ValueError("a distance to the nearest other needs at least two images")
    itself = torch.eye(num_images, dtype=torch.bool, device=distance_XSS.device)
    return distance_XSS.masked_fill(itself, torch.inf).amin(-1).mean(-1)


def vendi_score(kernel_XSS: Tensor, order: float = 1.0) -> Tensor:
    """Vendi score of a similarity matrix: the effective number of distinct images, in [1, S].

    exp of the Renyi entropy of the eigenvalues of K / S (arXiv 2210.02410, def. 2; orders: arXiv 2310.12952). Order 2
    is RKE, infinity is 1 / largest eigenvalue. It grows with S for a fixed population: compare at equal S only.

    Args:
        kernel_XSS: positive semi-definite similarities with unit diagonal, [..., S, S]. Images with a zero row and
            column are left out.
        order: q >= 0.

    Returns:
        float64 [...].
    """
    eigenvalues = _eigenvalues(kernel_XSS.double() / kernel_XSS.shape[-1]).clamp(min=0)
    # Eigenvalues that are zero up to rounding must not count as rare modes, which matters for orders below 1.
    cutoff = eigenvalues.shape[-1] * torch.finfo(torch.float64).eps * eigenvalues.amax(-1, keepdim=True)
    eigenvalues = torch.where(eigenvalues > cutoff, eigenvalues, 0)
    weights = eigenvalues / eigenvalues.sum(-1, keepdim=True)
    if order == 1:
        return torch.special.entr(weights).sum(-1).exp()
    if order == float("inf"):
        return 1 / weights.amax(-1)
    powers = torch.where(weights > 0, weights.pow(order), 0)
    return powers.sum(-1).pow(1 / (1 - order))


def rke_score(kernel_XSS: Tensor) -> Tensor:
    """S^2 / sum_ij K_ij^2: the Vendi score of order 2 without eigenvalues, float64 [...], in [1, S].

    RKE: exponential of the order-2 Renyi entropy of the kernel (Jalali, Li and Farnia, NeurIPS 2023).

    Args:
        kernel_XSS: positive semi-definite similarities with unit diagonal, [..., S, S].
    """
    return kernel_XSS.shape[-1] ** 2 / kernel_XSS.double().square().sum((-2, -1))


def _gram(rows_XSD: Tensor) -> Tensor:
    """Products of all pairs of rows, [..., S, D] -> [..., S, S]: on a CPU by numpy, which computes each pair once."""
    if rows_XSD.device.type != "cpu" or rows_XSD.requires_grad:
        return rows_XSD @ rows_XSD.mT
    rows = rows_XSD.numpy()
    return torch.from_numpy(np.matmul(rows, rows.swapaxes(-1, -2)))


def _eigenvalues(matrix_XSS: Tensor) -> Tensor:
    """Eigenvalues of symmetric matrices, ascending, float64 [..., S]: on a CPU by the faster of two LAPACKs."""
    if matrix_XSS.device.type != "cpu" or matrix_XSS.requires_grad or matrix_XSS.shape[-1] < LARGE_KERNEL:
        return torch.linalg.eigvalsh(matrix_XSS)
    return torch.from_numpy(np.linalg.eigvalsh(matrix_XSS.numpy()))


def _valid_pairs(embedding_PGD: Tensor, valid_PG: Tensor | None) -> tuple[Tensor, Tensor]:
    """The cosine kernel with zero rows and columns for invalid images; bool [P, G, G], valid pairs i != j."""
    if valid_PG is None:
        valid_PG = torch.ones(embedding_PGD.shape[:2], dtype=torch.bool, device=embedding_PGD.device)
    pair_PGG = valid_PG[:, :, None] & valid_PG[:, None, :]
    kernel_PGG = torch.where(pair_PGG, cosine_kernel(torch.where(valid_PG[..., None], embedding_PGD, 0)), 0)
    itself = torch.eye(pair_PGG.shape[-1], dtype=torch.bool, device=pair_PGG.device)
    return kernel_PGG, pair_PGG & ~itself
