"""Diversity of the training groups at every iteration, by an encoder that is not used for training."""

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.types import PromptBatch, Scores
from drift_pl.evaluation.measures import group_value
from drift_pl.evaluation.metrics import standard_metrics
from drift_pl.scoring.calls import finite_images, finite_only, known_rows
from drift_pl.scoring.protocol import PairwiseDistance, move
from drift_pl.training.reporting import IterationReport


class DiversityMonitor(L.Callback):
    """Logs `diversity/pairwise_distance`, `diversity/vendi` and `diversity/pairwise_lpips`: means over groups.

    Training groups are sampled with stochastic steps and, with the prompting lever, with varied prompts; both add some
    diversity that evaluation images lack. Images with NaN do not count. Each process measures its own groups, and no
    image leaves it.

    Args:
        lpips: all-pairs perceptual distance; None to skip it.
    """

    def __init__(self, lpips: PairwiseDistance | None) -> None:
        self._metrics = standard_metrics(lpips)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for metric in self._metrics.values():
            move(metric, pl_module.device)

    def observe_iteration(
        self, report: IterationReport, scores: Scores, images_B3HW: Tensor, batch: PromptBatch
    ) -> None:
        embedding_PGD = scores.monitor_embedding_PGD
        assert embedding_PGD is not None
        images_PG3HW = images_B3HW.unflatten(0, embedding_PGD.shape[:2])
        for name, metric in self._metrics.items():
            known, groups = (finite_images, images_PG3HW) if metric.of_images else (known_rows, embedding_PGD)
            with torch.autocast(images_B3HW.device.type, enabled=False):
                values = [group_value(name, metric, finite_only(rows, known(rows))) for rows in groups]
            report.add(f"diversity/{name}", torch.stack([value.double().cpu() for value in values]))
