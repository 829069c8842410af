"""Diversity of the training groups at every iteration, by an encoder that is not used for training."""

from typing import Any

import lightning as L
import torch

from drift_pl.evaluation.metrics import standard_metrics
from drift_pl.scoring.calls import finite_images, known_rows, row_per_image
from drift_pl.scoring.protocol import Encoder, PairwiseDistance, move


class DiversityMonitor(L.Callback):
    """Logs `diversity/pairwise_distance`, `diversity/vendi` and `diversity/pairwise_lpips`.

    Training groups are sampled with stochastic steps and, with the prompting lever, with varied prompts; both add some
    diversity that evaluation images lack. Images with NaN do not count.

    Args:
        encoder: the evaluation encoder, not the shaping encoder.
        lpips: all-pairs perceptual distance; None to skip it.
    """

    def __init__(self, encoder: Encoder, lpips: PairwiseDistance | None) -> None:
        self._encoder = encoder
        self._metrics = standard_metrics(lpips)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        move(self._encoder, pl_module.device)
        for metric in self._metrics.values():
            metric.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        images_B3HW = outputs["images_B3HW"]
        group_P = torch.tensor(batch.groups, device=images_B3HW.device)
        prompt_B = group_P.repeat_interleave(batch.group_size)
        embedding_BD = row_per_image("evaluation.encoder", self._encoder, images_B3HW)
        finite_B, known_B = finite_images(images_B3HW), known_rows(embedding_BD)
        values = {}
        for name, metric in self._metrics.items():
            rows, counts_B = (images_B3HW, finite_B) if metric.of_images else (embedding_BD, known_B)
            metric.update(rows[counts_B], prompt_B[counts_B])
            values[f"diversity/{name}"] = float(metric.compute())
            metric.reset()
        outputs["metrics"].update(values)
        pl_module.log_dict(values, batch_size=1)
