"""Frechet and kernel distances between two sets of embeddings, as in FID and KID."""

import torch
from torch import Tensor

# Rows of the kernel matrix held in memory at once; the full matrix of thirty thousand images takes gigabytes.
ROWS_PER_BLOCK = 2048


def frechet_distance(embedding_ND: Tensor, reference_MD: Tensor) -> Tensor:
    """Squared Frechet distance between Gaussians fitted to two sets (FID, arXiv 1706.08500, eq. 6).

        |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)),   C and C' the unbiased covariances

    With centred rows A / sqrt(n - 1) and B / sqrt(m - 1), the trace of the square root is the nuclear norm of
    A B^T. This needs no root of a singular matrix, so it works for fewer images than channels. The estimate is biased:
    two samples of one distribution have a positive distance, which falls with their sizes. Compare at equal sizes.

    Args:
        embedding_ND: at least two rows.
        reference_MD: at least two rows.

    Returns:
        float64 scalar, at least 0.

    Raises:
        ValueError: a set has fewer than two rows.
    """
    first, second = _checked(embedding_ND), _checked(reference_MD)
    factors = []
    for rows in (first, second):
        centred = (rows - rows.mean(0)) / (len(rows) - 1) ** 0.5
        # R^T R equals the covariance, and R has at most as many rows as channels
        factors.append(torch.linalg.qr(centred, mode="r").R)
    shift = (first.mean(0) - second.mean(0)).square().sum()
    spreads = factors[0].square().sum() + factors[1].square().sum()
    return (shift + spreads - 2 * torch.linalg.svdvals(factors[0] @ factors[1].T).sum()).clamp(min=0)


def kernel_distance(
    embedding_ND: Tensor,
    reference_MD: Tensor,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    paired: bool = False,
) -> Tensor:
    """Unbiased squared maximum mean discrepancy with the kernel (gamma x.y + coef)^degree (KID, arXiv 1801.01401).

    Computed over all images at once, whereas KID averages over random subsets: same expectation, lower variance, no
    randomness. The sets may differ in size. The estimate may be negative.

    Args:
        embedding_ND: at least two rows.
        reference_MD: at least two rows.
        gamma: None for 1 / D, KID's choice for Inception features, whose norm is about sqrt(D). For unit
            embeddings use 1, the same kernel on embeddings of norm sqrt(D); 1 / D would make it nearly linear.
        paired: row i of both sets comes from the same draw (the same noise through two models). Such pairs are not
            independent and would bias the estimate downwards, so they are left out of the cross term, like the
            diagonals of the other terms (Gretton et al. 2012, eq. 4). A set is then at distance 0 from itself.

    Returns:
        float64 scalar.

    Raises:
        ValueError: a set has fewer than two rows, or paired sets differ in size.
    """
    first, second = _checked(embedding_ND), _checked(reference_MD)
    scale = 1 / first.shape[1] if gamma is None else gamma

    def kernel_sum(rows: Tensor, columns: Tensor) -> Tensor:
        blocks = [((scale * part @ columns.T + coef) ** degree).sum() for part in rows.split(ROWS_PER_BLOCK)]
        return torch.stack(blocks).sum()

    def mean_of_others(rows: Tensor, columns: Tensor) -> Tensor:
        counterparts = ((scale * (rows * columns).sum(-1) + coef) ** degree).sum()
        return (kernel_sum(rows, columns) - counterparts) / (len(rows) * (len(rows) - 1))

    if paired and len(first) != len(second):
        raise ValueError(f"paired sets must be of equal size, not {len(first)} and {len(second)}")
    across = mean_of_others(first, second) if paired else kernel_sum(first, second) / (len(first) * len(second))
    return mean_of_others(first, first) + mean_of_others(second, second) - 2 * across


def _checked(rows_ND: Tensor) -> Tensor:
    if len(rows_ND) < 2:
        raise ValueError("a distance between distributions needs at least two embeddings of each")
    return rows_ND.double()
