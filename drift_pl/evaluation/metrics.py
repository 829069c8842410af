"""Diversity of the images of one prompt, and drift from the base model.

A set's diversity is not the mean of its parts' diversities, so a metric is given a prompt's images together.
"""

import torch
from torch import Tensor

from drift_pl.core.answers import of_shape
from drift_pl.functional.distribution import frechet_distance, kernel_distance
from drift_pl.functional.diversity import (
    cosine_kernel,
    mean_nearest_distance,
    mean_pairwise_distance,
    rke_score,
    vendi_score,
)
from drift_pl.functional.similarity import structural_similarity
from drift_pl.scoring.calls import as_numbers, call
from drift_pl.scoring.protocol import MeanDistance, PairwiseDistance, move

LPIPS = "evaluation.lpips"


class GroupedMetric:
    """Turns what is known of one prompt's images into a number.

    Attributes:
        of_images: whether it is given the images, or else their embeddings by the evaluation encoder.
    """

    of_images = False

    def of_group(self, rows_SX: Tensor) -> Tensor:
        """The value, 0-dimensional.

        Args:
            rows_SX: one row per image, at least two: embeddings [S, D], or images [S, 3, H, W] in [0, 1].
        """
        raise NotImplementedError


class MeanPairwiseDistance(GroupedMetric):
    """Mean pairwise cosine distance, in [0, 2]."""

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return mean_pairwise_distance(1 - cosine_kernel(rows_SX))


class MeanNearestDistance(GroupedMetric):
    """Mean cosine distance to the nearest other image, in [0, 2]."""

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return mean_nearest_distance(1 - cosine_kernel(rows_SX))


class VendiScore(GroupedMetric):
    """Vendi score on the cosine kernel, in [1, S].

    Args:
        order: q of the score; 1 is the original, 2 is RKE.
    """

    def __init__(self, order: float = 1.0) -> None:
        self.order = order

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return vendi_score(cosine_kernel(rows_SX), self.order)


class RkeScore(GroupedMetric):
    """RKE, the Vendi score of order 2 without eigenvalues, in [1, S]."""

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return rke_score(cosine_kernel(rows_SX))


class PairwiseLpips(GroupedMetric):
    """Mean pairwise LPIPS of the images.

    Args:
        distance: all-pairs LPIPS of a set, `drift_pl.scoring.encoders.LpipsEncoder`; of a `MeanDistance` the mean is
            taken.
    """

    of_images = True

    def __init__(self, distance: PairwiseDistance) -> None:
        self._distance = distance

    def of_group(self, rows_SX: Tensor) -> Tensor:
        if isinstance(self._distance, MeanDistance):
            wanted = "the mean of all pairs"
            mean = as_numbers(LPIPS, call(LPIPS, self._distance.mean_distance, rows_SX), wanted, "")
            return of_shape(LPIPS, mean, (), wanted)
        size, wanted = len(rows_SX), "the distance of each pair of images"
        distance_SS = as_numbers(LPIPS, call(LPIPS, self._distance, rows_SX), wanted, f"{size}, {size}")
        return mean_pairwise_distance(of_shape(LPIPS, distance_SS, (size, size), wanted))

    def to(self, device: torch.device | str) -> None:
        move(self._distance, device)


class PairwiseSsim(GroupedMetric):
    """Mean of 1 - SSIM over the pairs of the images, in [0, 2]."""

    of_images = True

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return mean_pairwise_distance(1 - structural_similarity(rows_SX))


class DriftMetric:
    """Distance of a model's images from the base model's, over all prompts together."""

    def between(self, embedding_ND: Tensor, reference_MD: Tensor) -> Tensor:
        """Row n of both has the same prompt and noise."""
        raise NotImplementedError


class FrechetDistance(DriftMetric):
    """Squared Frechet distance of embeddings: 0 for equal models and noise, above it for independent samples."""

    def between(self, embedding_ND: Tensor, reference_MD: Tensor) -> Tensor:
        return frechet_distance(embedding_ND, reference_MD)


class KernelDistance(DriftMetric):
    """Unbiased squared maximum mean discrepancy of unit embeddings; 0 for equal models."""

    def between(self, embedding_ND: Tensor, reference_MD: Tensor) -> Tensor:
        return kernel_distance(embedding_ND, reference_MD, gamma=1.0, paired=True)


def standard_metrics(lpips: PairwiseDistance | None, vendi_order: float = 1.0) -> dict[str, GroupedMetric]:
    """Metrics of every group of images, by their names in logs and records; without `lpips` no `pairwise_lpips`."""
    metrics: dict[str, GroupedMetric] = {"pairwise_distance": MeanPairwiseDistance(), "vendi": VendiScore(vendi_order)}
    return metrics if lpips is None else metrics | {"pairwise_lpips": PairwiseLpips(lpips)}
