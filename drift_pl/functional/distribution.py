"""How far one set of embeddings is from another: Frechet and kernel distance, as in FID and KID."""

import torch
from torch import Tensor

# Rows of a kernel matrix that are held at a time: thirty thousand images would fill gigabytes otherwise.
ROWS_PER_BLOCK = 2048


def frechet_distance(embedding_ND: Tensor, reference_MD: Tensor) -> Tensor:
    """Squared Frechet distance between Gaussians fitted to two sets (FID, arXiv 1706.08500, eq. 6).

        |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)),   C and C' the unbiased covariances

    With centred rows A / sqrt(n - 1) and B / sqrt(m - 1), the trace of the root is the nuclear norm of A B^T: no root
    of a singular matrix is taken, so fewer images than channels are no trouble to compute. They are one to read: the
    distance of two samples of one distribution is above zero and falls with their sizes. Compare at equal sizes.

    Args:
        embedding_ND: at least two rows.
        reference_MD: at least two rows.

    Returns:
        float64 scalar, at least 0.

    Raises:
        ValueError: a set has fewer than two rows, or paired sets differ in size.
    """
    first, second = _checked(embedding_ND), _checked(reference_MD)
    factors = []
    for rows in (first, second):
        centred = (rows - rows.mean(0)) / (len(rows) - 1) ** 0.5
        # R^T R is the covariance as well, and R has no more rows than there are channels
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

    Over all images at once, where KID averages over random subsets: the same expectation, less variance, and nothing
    is drawn. Sets of any size may be compared. It may fall below zero.

    Args:
        embedding_ND: at least two rows.
        reference_MD: at least two rows.
        gamma: None for 1 / D, KID's choice for Inception features, whose length is about sqrt(D). Unit embeddings
            take 1, which is the same kernel of the embeddings at length sqrt(D); 1 / D would make it all but linear.
        paired: row i of both sets is the same draw (one noise through two models). These pairs are not independent,
            and counted across they would push the estimate below zero, so they are left out, as a row and itself are
            (Gretton et al. 2012, eq. 4). A set and itself are then at exactly 0.

    Returns:
        float64 scalar.

    Raises:
        ValueError: a set has fewer than two rows.
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
        raise ValueError(f"{len(first)} and {len(second)} embeddings are no pairs")
    across = mean_of_others(first, second) if paired else kernel_sum(first, second) / (len(first) * len(second))
    return mean_of_others(first, first) + mean_of_others(second, second) - 2 * across


def _checked(rows_ND: Tensor) -> Tensor:
    if len(rows_ND) < 2:
        raise ValueError("a distance between distributions needs at least two embeddings of each")
    return rows_ND.double()
