"""Pixel similarity within a set of images: SSIM of all pairs."""

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

# The Gaussian window of the paper: 11 x 11 pixels, sigma 1.5.
WINDOW = 11
SIGMA = 1.5


def structural_similarity(images_S3HW: Tensor, pairs_per_pass: int = 8) -> Tensor:
    """SSIM of all pairs (Wang et al., IEEE TIP 13(4), 2004, eq. 13, with C1 = 0.01^2 and C2 = 0.03^2).

    Mean over pixels and channels; borders are reflected. For images with a side below 11 pixels, the window is
    the largest odd one that fits, with sigma scaled in proportion.

    Args:
        images_S3HW: images in [0, 1]; compared in float32.
        pairs_per_pass: pairs filtered at once; affects memory only.

    Returns:
        Symmetric float32 [S, S] in [-1, 1], unit diagonal.
    """
    images_S3HW = images_S3HW.float()
    num_images = len(images_S3HW)
    first, second = torch.triu_indices(num_images, num_images, offset=1, device=images_S3HW.device)
    similarity_SS = torch.eye(num_images, device=images_S3HW.device)
    if num_images < 2:  # splitting no pairs gives one empty part
        return similarity_SS
    # torchmetrics derives the window from sigma, and ignores its `kernel_size`, when the weights are Gaussian
    sigma = SIGMA * _window(images_S3HW) / WINDOW
    for rows, columns in zip(first.split(pairs_per_pass), second.split(pairs_per_pass), strict=True):
        value = structural_similarity_index_measure(
            images_S3HW[rows], images_S3HW[columns], sigma=sigma, data_range=1.0, reduction="none"
        )
        similarity_SS[rows, columns] = similarity_SS[columns, rows] = value
    return similarity_SS


def _window(images_S3HW: Tensor) -> int:
    """Side of the largest odd window, up to 11 pixels, that fits into an image."""
    largest = min(WINDOW, *images_S3HW.shape[-2:])
    return largest - 1 + largest % 2
