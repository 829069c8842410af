"""Diversity of the training groups at every iteration, by an encoder that is not used for training."""

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.prompt_batch import PromptBatch
from drift_pl.core.types import Scores
from drift_pl.evaluation.measures import group_value
from drift_pl.evaluation.metrics import standard_metrics
from drift_pl.scoring.calls import finite_images, finite_only, known_rows
from drift_pl.scoring.protocol import PairwiseDistance, move
from drift_pl.training.reporting import IterationReport


class DiversityMonitor(L.Callback):
    """Logs `diversity/pairwise_distance`, `diversity/vendi` and `diversity/pairwise_lpips`: means over groups.

    Training groups are sampled with stochastic steps and, with the prompting lever, with varied prompts; both add some
    diversity that evaluation images lack. Images with NaN do not count. Each process measures its own groups, and no
    image leaves it: where groups are split over processes, embeddings are those of whole groups (`Scores.of_all`), and
    LPIPS is the mean over the pairs of a group's images that are on one process.

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
        for name, metric in self._metrics.items():
            rows = self._images(images_B3HW, batch) if metric.of_images else self._embeddings(scores)
            with torch.autocast(images_B3HW.device.type, enabled=False):
                values = [group_value(name, metric, rows_SX) for rows_SX in rows]
            # a group in parts has a value of each part, which counts as often as the part has pairs
            in_parts = metric.of_images and batch.split is not None
            weights = [len(rows_SX) * (len(rows_SX) - 1) if in_parts else 1 for rows_SX in rows]
            values_N = torch.stack([value.double().cpu() for value in values])
            report.add(f"diversity/{name}", values_N, torch.tensor(weights))

    def _embeddings(self, scores: Scores) -> list[Tensor]:
        """Of each group, what is known of its images."""
        assert scores.monitor_embedding_PGD is not None
        return [finite_only(rows_GD, known_rows(rows_GD)) for rows_GD in scores.monitor_embedding_PGD]

    def _images(self, images_B3HW: Tensor, batch: PromptBatch) -> list[Tensor]:
        """Of each group, its images that are on this process."""
        parts = [images_B3HW[rows] for _, rows in batch.parts]
        return [finite_only(part_S3HW, finite_images(part_S3HW)) for part_S3HW in parts]
