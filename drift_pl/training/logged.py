"""What loggers get besides metrics: settings, pictures, texts, and what the run has come to."""

from collections.abc import Iterable, Mapping
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image
from torch.utils.tensorboard.summary import hparams

FINAL = "final/"
LAYOUT = {
    "overview": {
        "reward and diversity of the training groups": ["Multiline", ["reward/mean", "diversity/pairwise_distance"]],
        "reward and diversity on the tuning prompts": ["Multiline", ["eval/reward", "eval/pairwise_distance"]],
    }
}
"""Charts with several curves, on TensorBoard's page CUSTOM SCALARS."""
Plain = str | int | float | bool


def log_settings(logger: Logger, settings: Mapping[str, Plain], measures: Iterable[str], text: str) -> None:
    """Gives a logger what the run is.

    TensorBoard gets them as hyper-parameters whose metrics are the final values, its custom charts, and the text.

    Args:
        measures: names of what `log_final` will log.
    """
    logger.log_hyperparams(dict(settings))
    if isinstance(logger, TensorBoardLogger):
        writer = logger.experiment
        for summary in hparams(dict(settings), dict.fromkeys((FINAL + name for name in measures), 0.0))[:2]:
            writer.file_writer.add_summary(summary)
        writer.add_custom_scalars(LAYOUT)
        writer.add_text("run", text, 0)


def log_final(loggers: Iterable[Logger], values: Mapping[str, float], step: int) -> None:
    """Logs the tuned model's held-out values as `final/NAME`.

    Args:
        step: iterations that are done; a run that is extended drops what stands there.
    """
    for logger in loggers:
        logger.log_metrics({FINAL + name: value for name, value in values.items()}, step=step)
        logger.save()  # before the summary: a run that has one is not logged again


def log_picture(loggers: Iterable[Logger], tag: str, picture: Image.Image, step: int) -> None:
    """Gives a picture to the loggers that take some."""
    for logger in loggers:
        if hasattr(logger, "log_image"):
            logger.log_image(key=tag, images=[picture])
        elif hasattr(logger.experiment, "add_image"):
            logger.experiment.add_image(tag, np.asarray(picture), step, dataformats="HWC")


class RunSettings(L.Callback):
    """Logs the run's settings when it begins. Must come after `HeldOutEvaluation`, which knows what it measures.

    Args:
        settings: name -> value.
        text: Markdown, of which nothing is HTML.
        measures: gives the names of the final values.
    """

    def __init__(self, settings: Mapping[str, Plain], text: str, measures: Any) -> None:
        self._settings, self._text, self._measures = settings, text, measures

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                log_settings(logger, self._settings, self._measures(), self._text)
