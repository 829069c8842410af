"""Diversity and drift for anyone's torchmetrics code: the classes that the evaluator itself computes with.

from drift_pl.metrics import VendiScore

metric = VendiScore()
metric.update(embeddings, prompts)  # [N, D], and N prompts: a group is what shares one
metric.compute()                    # mean over the groups
"""

from drift_pl.evaluation.drift_metrics import FrechetDistance, KernelDistance
from drift_pl.evaluation.group_metrics import (
    GroupMetric,
    NearestDistance,
    PairwiseDistance,
    PairwiseLpips,
    PairwiseSsim,
    RkeScore,
    VendiScore,
)

__all__ = [
    "FrechetDistance",
    "GroupMetric",
    "KernelDistance",
    "NearestDistance",
    "PairwiseDistance",
    "PairwiseLpips",
    "PairwiseSsim",
    "RkeScore",
    "VendiScore",
]
