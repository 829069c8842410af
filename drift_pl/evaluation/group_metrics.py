"""torchmetrics' interface to the evaluator's measures of a group: means over groups, exchanged between processes."""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from drift_pl.evaluation import metrics as measured
from drift_pl.evaluation.metrics import GroupedMetric
from drift_pl.scoring.protocol import PairwiseDistance as ImageDistance


class GroupMetric(Metric):
    """The mean over groups of what a `GroupedMetric` finds in the images of one.

    A group's images must come in one `update`: a set's diversity is not the mean of its parts'. Groups of one image
    have no value and are left out; without any group the mean is NaN.

    Args:
        measure: of a group.
        arguments: those of `torchmetrics.Metric`.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    groups: Tensor

    def __init__(self, measure: GroupedMetric, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.measure = measure
        # a MetricCollection lets metrics share their states if these have the same names and, at first, the same values
        self.total_name = f"total_{type(measure).__name__}{getattr(measure, 'order', '')}"
        self.add_state(self.total_name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("groups", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, rows_NX: Tensor, groups: Sequence[Hashable] | Tensor | None = None) -> None:
        """Adds the measure of each group of at least two images to the mean over groups.

        Args:
            rows_NX: a row per image: embeddings [N, D], or images [N, 3, H, W] in [0, 1] for measures of images.
            groups: N labels, e.g. prompts; images with equal labels are a group. None: all are one.

        Raises:
            ValueError: there are not as many labels as rows.
        """
        labels = groups.tolist() if isinstance(groups, Tensor) else list(groups or [None] * len(rows_NX))
        if len(labels) != len(rows_NX):
            raise ValueError(f"groups has {len(labels)} labels for {len(rows_NX)} rows: give one for each")
        for label in dict.fromkeys(labels):
            members = [place for place, other in enumerate(labels) if other == label]
            if len(members) > 1:
                total = getattr(self, self.total_name) + self.measure.of_group(rows_NX[members]).double()
                setattr(self, self.total_name, total)
                self.groups += 1

    def compute(self) -> Tensor:
        """The mean, float32, 0-dimensional."""
        return (getattr(self, self.total_name) / self.groups).float()


class PairwiseDistance(GroupMetric):
    """Mean pairwise cosine distance of embeddings, in [0, 2]."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(measured.MeanPairwiseDistance(), **arguments)


class NearestDistance(GroupMetric):
    """Mean cosine distance of embeddings to the nearest other one, in [0, 2]."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(measured.MeanNearestDistance(), **arguments)


class VendiScore(GroupMetric):
    """Vendi score (arXiv 2210.02410) on the cosine kernel of embeddings, in [1, group's size].

    Args:
        order: q of the score (arXiv 2310.12952); 1 is the original, 2 is RKE.
    """

    def __init__(self, order: float = 1.0, **arguments: Any) -> None:
        super().__init__(measured.VendiScore(order), **arguments)


class RkeScore(GroupMetric):
    """RKE, the Vendi score of order 2 without eigenvalues, in [1, group's size]."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(measured.RkeScore(), **arguments)


class PairwiseSsim(GroupMetric):
    """Mean of 1 - SSIM over the pairs of a group's images, in [0, 2]."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(measured.PairwiseSsim(), **arguments)


class PairwiseLpips(GroupMetric):
    """Mean pairwise LPIPS of a group's images.

    Args:
        distance: of all pairs, e.g. `drift_pl.scoring.encoders.LpipsEncoder(pretrained)`.
    """

    def __init__(self, distance: ImageDistance, **arguments: Any) -> None:
        super().__init__(measured.PairwiseLpips(distance), **arguments)
