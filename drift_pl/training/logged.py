"""What loggers get besides metrics: settings, pictures, texts, and what the run has come to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

FINAL = "final/"
LAYOUT = {
    "overview": {
        "reward and diversity of the training groups": ["Multiline", ["reward/mean", "diversity/pairwise_distance"]],
        "reward and diversity on the tuning prompts": ["Multiline", ["eval/reward", "eval/pairwise_distance"]],
    }
}
"""Charts with several curves, on TensorBoard's page CUSTOM SCALARS."""
Plain = str | int | float | bool


def log_settings(
    logger: Logger, settings: Mapping[str, Plain], first: Sequence[str], measures: Iterable[str], text: str
) -> None:
    """Gives a logger what the run is.

    TensorBoard gets them as hyper-parameters whose metrics are the final values, its custom charts, and the text.

    Args:
        first: settings in the order of TensorBoard's columns; the others follow by name.
        measures: names of what `log_final` will log.
    """
    logger.log_hyperparams(dict(settings))
    if isinstance(logger, TensorBoardLogger):
        writer = logger.experiment
        for summary in _hyper_parameters(settings, first, [FINAL + name for name in measures]):
            writer.file_writer.add_summary(summary)
        writer.add_custom_scalars(LAYOUT)
        writer.add_text("run", text, 0)


def _hyper_parameters(settings: Mapping[str, Plain], first: Sequence[str], metrics: Sequence[str]) -> Iterator[Summary]:
    """What TensorBoard's page HPARAMS reads: its columns, then the run's values.

    Its columns are in the order of their names, and only five are shown until others are asked for. So the names of
    `first` begin with a number, the same in all runs; what is shown is the setting without it.
    """
    names = {key: f"{first.index(key):02} {key}" if key in first else key for key in settings}
    infos, start = [], SessionStartInfo()
    for key, value in settings.items():
        kind, field = _typed(value)
        infos.append(HParamInfo(name=names[key], display_name=key, type=kind))
        setattr(start.hparams[names[key]], field, value)
    columns = Experiment(hparam_infos=infos, metric_infos=[MetricInfo(name=MetricName(tag=tag)) for tag in metrics])
    for tag, data in (
        (metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=columns)),
        (metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
    ):
        about = metadata.create_summary_metadata(data)
        yield Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])


def _typed(value: Plain) -> tuple[Any, str]:
    """A value's kind, and the field of the message that holds one."""
    if isinstance(value, bool):
        return DataType.DATA_TYPE_BOOL, "bool_value"
    if isinstance(value, str):
        return DataType.DATA_TYPE_STRING, "string_value"
    return DataType.DATA_TYPE_FLOAT64, "number_value"


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
        first: see `log_settings`.
        text: Markdown, of which nothing is HTML.
        measures: gives the names of the final values.
    """

    def __init__(self, settings: Mapping[str, Plain], first: Sequence[str], text: str, measures: Any) -> None:
        self._settings, self._first, self._text, self._measures = settings, first, text, measures

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                log_settings(logger, self._settings, self._first, self._measures(), self._text)
