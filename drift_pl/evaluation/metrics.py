"""Diversity metrics for torchmetrics, and drift from the base model.

Diversity is measured per prompt, then averaged over prompts. Images of one prompt may arrive in several updates and on
several processes: states are concatenated and grouped in `compute`, because a set's diversity is not the mean of its
parts' diversities.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from drift_pl.functional.distribution import frechet_distance, kernel_distance
from drift_pl.functional.diversity import (
    cosine_kernel,
    mean_nearest_distance,
    mean_pairwise_distance,
    rke_score,
    vendi_score,
)
from drift_pl.functional.similarity import structural_similarity
from drift_pl.scoring.calls import as_numbers, call, wrong_answer
from drift_pl.scoring.protocol import MeanDistance, PairwiseDistance, move

LPIPS = "evaluation.lpips"


class GroupedMetric(Metric):
    """Collects rows and the prompt of each; a subclass turns one prompt's rows into a number.

    Attributes:
        of_images: whether a row is an image, or else its embedding by the evaluation encoder.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    of_images = False
    rows: list[Tensor]
    prompt: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("prompt", default=[], dist_reduce_fx="cat")

    def update(self, rows_BX: Tensor, prompt_B: Tensor) -> None:
        """Adds one row per image, see `of_images`: embeddings [B, D], or images [B, 3, H, W] in [0, 1].

        Args:
            prompt_B: int64 [B], any number that identifies the prompt over all processes.
        """
        self.rows.append(rows_BX)
        self.prompt.append(prompt_B)

    def compute(self) -> Tensor:
        """Mean over prompts with at least two images; NaN if there are none."""
        if not len(self.rows):
            return torch.tensor(torch.nan)
        rows, prompt = dim_zero_cat(self.rows), dim_zero_cat(self.prompt)
        values = [self.of_group(rows[prompt == index]) for index in prompt.unique() if (prompt == index).sum() > 1]
        return torch.stack(values).mean() if values else torch.tensor(torch.nan)

    def of_group(self, rows_SX: Tensor) -> Tensor:
        raise NotImplementedError


class MeanPairwiseDistance(GroupedMetric):
    """Mean pairwise cosine distance, in [0, 2], of the embeddings given to `update`."""

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return mean_pairwise_distance(1 - cosine_kernel(rows_SX))


class MeanNearestDistance(GroupedMetric):
    """Mean cosine distance to the nearest other image, in [0, 2], of the embeddings given to `update`."""

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return mean_nearest_distance(1 - cosine_kernel(rows_SX))


class VendiScore(GroupedMetric):
    """Vendi score on the cosine kernel, in [1, S], of the embeddings given to `update`.

    Args:
        order: q of the score; 1 is the original, 2 is RKE.
    """

    def __init__(self, order: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.order = order

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return vendi_score(cosine_kernel(rows_SX), self.order)


class RkeScore(GroupedMetric):
    """RKE, the Vendi score of order 2 without eigenvalues, in [1, S], of the embeddings given to `update`."""

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return rke_score(cosine_kernel(rows_SX))


class PairwiseLpips(GroupedMetric):
    """Mean pairwise LPIPS of the images given to `update`.

    Args:
        distance: all-pairs LPIPS of a set, `drift_pl.scoring.encoders.LpipsEncoder`, not a submodule. If it is a
            `MeanDistance`, its mean is taken.
    """

    of_images = True

    def __init__(self, distance: PairwiseDistance, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._distance = distance

    def of_group(self, rows_SX: Tensor) -> Tensor:
        if isinstance(self._distance, MeanDistance):
            mean = as_numbers(LPIPS, call(LPIPS, self._distance.mean_distance, rows_SX), "the mean of all pairs", "")
            if mean.ndim:
                raise wrong_answer(LPIPS, tuple(mean.shape), "the mean of all pairs", "")
            return mean
        size, wanted = len(rows_SX), "the distance of each pair of images"
        distance_SS = as_numbers(LPIPS, call(LPIPS, self._distance, rows_SX), wanted, f"{size}, {size}")
        if distance_SS.shape != (size, size):
            raise wrong_answer(LPIPS, tuple(distance_SS.shape), wanted, f"{size}, {size}")
        return mean_pairwise_distance(distance_SS)

    def to(self, *args: Any, **kwargs: Any) -> "PairwiseLpips":
        move(self._distance, args[0])
        return super().to(*args, **kwargs)


class PairwiseSsim(GroupedMetric):
    """Mean of 1 - SSIM over the pairs of the images given to `update`, in [0, 2]."""

    of_images = True

    def of_group(self, rows_SX: Tensor) -> Tensor:
        return mean_pairwise_distance(1 - structural_similarity(rows_SX))


class DriftMetric:
    """Distance of a model's images from the base model's, over all prompts together."""

    def between(self, embedding_ND: Tensor, reference_MD: Tensor) -> Tensor:
        """Row n of both has the same prompt and noise."""
        raise NotImplementedError


class FrechetDistance(DriftMetric):
    """Squared Frechet distance of the embeddings, at least 0; above 0 for equal models and finite samples."""

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
