"""torchmetrics' interface to the evaluator's distances between two sets of images."""

from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from drift_pl.evaluation import metrics as measured
from drift_pl.evaluation.metrics import DriftMetric


class _Drift(Metric):
    """Keeps all embeddings: the distance is one of whole sets."""

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    tuned: list[Tensor]
    reference: list[Tensor]

    def __init__(self, measure: DriftMetric, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.measure = measure
        self.add_state("tuned", [], dist_reduce_fx="cat")
        self.add_state("reference", [], dist_reduce_fx="cat")

    def update(self, embedding_ND: Tensor, reference_ND: Tensor) -> None:
        """Adds a batch of embeddings to the set of each model.

        Args:
            embedding_ND, reference_ND: unit embeddings of both models' images; row n of both has one prompt and noise.
        """
        self.tuned.append(embedding_ND)
        self.reference.append(reference_ND)

    def compute(self) -> Tensor:
        return self.measure.between(dim_zero_cat(self.tuned), dim_zero_cat(self.reference)).float()


class FrechetDistance(_Drift):
    """Squared Frechet distance of embeddings: 0 for equal models and noise, above it for independent samples."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(measured.FrechetDistance(), **arguments)


class KernelDistance(_Drift):
    """Unbiased squared maximum mean discrepancy of unit embeddings; 0 for equal models."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(measured.KernelDistance(), **arguments)
