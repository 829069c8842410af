"""How different the images of a group are: pairwise distances and the Vendi score."""

import torch
from torch import Tensor


def cosine_kernel(embedding_XSD: Tensor) -> Tensor:
    """Gram matrices of normalised embeddings, float64 [..., S, S], from [..., S, D]; unit diagonal."""
    unit = torch.nn.functional.normalize(embedding_XSD.double(), dim=-1)
    return unit @ unit.mT


def distance_to_others(embedding_PGD: Tensor, valid_PG: Tensor | None = None) -> Tensor:
    """d_i = 1 - mean_{j != i} <e_i, e_j> over the valid images of the group, in [0, 2].

    Args:
        embedding_PGD: embeddings; normalised here.
        valid_PG: bool; an image that is not valid counts neither as i nor as j. None: all are.

    Returns:
        float32 [P, G]; 0 for invalid images and in groups with fewer than two valid ones.
    """
    if valid_PG is None:
        valid_PG = torch.ones(embedding_PGD.shape[:2], dtype=torch.bool, device=embedding_PGD.device)
    clean_PGD = torch.where(valid_PG[..., None], embedding_PGD, 0)
    distance_PGG = 1 - cosine_kernel(clean_PGD)
    pair_PGG = valid_PG[:, :, None] & valid_PG[:, None, :]
    pair_PGG = pair_PGG & ~torch.eye(pair_PGG.shape[-1], dtype=torch.bool, device=pair_PGG.device)
    total_PG = torch.where(pair_PGG, distance_PGG, 0).sum(-1)
    return (total_PG / pair_PGG.sum(-1).clamp(min=1)).float()


def mean_pairwise_distance(distance_XSS: Tensor) -> Tensor:
    """Mean over the S (S - 1) / 2 pairs of a symmetric distance matrix: [..., S, S] -> [...].

    A U-statistic: unbiased whatever S, unlike the Vendi score. S must be at least 2.
    """
    num_images = distance_XSS.shape[-1]
    if num_images < 2:
        raise ValueError("a pairwise distance needs at least two images")
    off_diagonal = distance_XSS.sum((-2, -1)) - distance_XSS.diagonal(dim1=-2, dim2=-1).sum(-1)
    return off_diagonal / (num_images * (num_images - 1))


def vendi_score(kernel_XSS: Tensor, order: float = 1.0) -> Tensor:
    """Vendi score of a similarity matrix: the effective number of distinct images, in [1, S].

    exp of the Renyi entropy of the eigenvalues of K / S (arXiv 2210.02410, def. 2; orders: arXiv 2310.12952). Order 2
    is RKE, infinity is 1 / largest eigenvalue. It grows with S for a fixed population: compare at equal S only.

    Args:
        kernel_XSS: positive semi-definite similarities with unit diagonal, [..., S, S].
        order: q >= 0.

    Returns:
        float64 [...].
    """
    eigenvalues = torch.linalg.eigvalsh(kernel_XSS.double() / kernel_XSS.shape[-1]).clamp(min=0)
    # Eigenvalues that are zero but for rounding must not count as rare modes: they matter for orders below 1.
    cutoff = eigenvalues.shape[-1] * torch.finfo(torch.float64).eps * eigenvalues.amax(-1, keepdim=True)
    eigenvalues = torch.where(eigenvalues > cutoff, eigenvalues, 0)
    weights = eigenvalues / eigenvalues.sum(-1, keepdim=True)
    if order == 1:
        return torch.special.entr(weights).sum(-1).exp()
    if order == float("inf"):
        return 1 / weights.amax(-1)
    powers = torch.where(weights > 0, weights.pow(order), 0)
    return powers.sum(-1).pow(1 / (1 - order))
