"""Builds what watches a run: callbacks and loggers."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor
from lightning.pytorch.loggers import Logger

from drift_pl.builders.arguments import named_by, takes_first
from drift_pl.builders.logged_settings import FIRST, logged_settings, run_text
from drift_pl.config.batches import world_size
from drift_pl.config.command import describe
from drift_pl.config.run_folder import resume_command
from drift_pl.config.schema import Config
from drift_pl.config.updates import step_limit
from drift_pl.core import checkpoint_files
from drift_pl.core.errors import UserError, named, naming
from drift_pl.core.processes import Patience
from drift_pl.core.progress import Display
from drift_pl.core.registry import construct, create, find
from drift_pl.core.signatures import check_signature, signature_of
from drift_pl.training.callback_state import refuse_unreadable
from drift_pl.training.callbacks import (
    DiversityAlarm,
    DiversityMonitor,
    HeldOutEvaluation,
    RatioWatch,
    RunLength,
    RunProgress,
    RunStatus,
)
from drift_pl.training.checkpointing import BoundaryCheckpoint, RunIdentity
from drift_pl.training.failing import RankWatch
from drift_pl.training.logged import RunSettings
from drift_pl.training.numbered_checkpoints import NumberedCheckpoints

LOGGING = (DeviceStatsMonitor, LearningRateMonitor)
"""Lightning's callbacks that refuse to begin without a logger: too late, after the base model has been measured."""


def build_further_callbacks(config: Config) -> list[L.Callback]:
    """Those of `trainer.callbacks`.

    Raises:
        UserError: one cannot be made, is none, or keeps what no checkpoint can hold.
    """
    made = []
    for number, callback in enumerate(config.trainer.callbacks):
        with naming(f"trainer.callbacks.{number}"):
            made.append(create("callback", callback.name, callback.args))
            if not isinstance(made[-1], L.Callback):
                kind = type(made[-1]).__name__
                raise UserError(f"{named()}: {callback.name!r} makes {kind}, which is no Lightning callback")
            if isinstance(made[-1], LOGGING) and not config.trainer.logger:
                raise UserError(f"{named()}: {callback.name!r} needs a logger: give e.g. trainer.logger=[csv]")
            refuse_unreadable(callback.name, made[-1].state_dict())
    return made


def build_callbacks(
    config: Config,
    evaluation: HeldOutEvaluation,
    run_dir: Path,
    identity: RunIdentity,
    trained: bool,
    further: Sequence[L.Callback],
    patience: Patience,
    display: Display,
) -> list[L.Callback]:
    """In the order of their calls: measures, then the summary, then what may end the run, then checkpoints."""
    trainer, evaluator = config.trainer, evaluation.bench.evaluator
    callbacks: list[L.Callback] = [
        identity,
        DiversityMonitor(evaluator.lpips if trainer.monitor_lpips else None),
        DiversityAlarm(trainer.alarm.threshold, trainer.alarm.stop),
        RatioWatch(*step_limit(config)),
        RunProgress(trainer.iterations, display),
        evaluation,
        RunSettings(
            logged_settings(config), FIRST, run_text(config, run_dir, evaluation.test_prompts), evaluation.measures
        ),
        RunStatus(run_dir, trainer.iterations),
    ]
    callbacks += further
    callbacks.append(RunLength(trainer.iterations, trained, agree=bool(further)))
    folder = run_dir / checkpoint_files.FOLDER
    boundary = BoundaryCheckpoint(folder / checkpoint_files.LAST, trainer.keep_boundary)
    callbacks.append(boundary)
    if world_size(config) > 1:
        resume = resume_command(run_dir)
        watch = RankWatch(describe, resume, boundary.saved, patience, trainer.keep_boundary)
        callbacks.insert(0, watch)
    callbacks.append(NumberedCheckpoints(folder, trainer.keep_checkpoints, boundary))
    return callbacks


def build_loggers(config: Config, run_dir: Path, done: int) -> list[Logger]:
    """The Lightning loggers that `trainer.logger` names; each gets the run's folder, unless it takes none.

    Raises:
        UserError: one cannot be made, or is none.
    """
    made = []
    own = {"run_dir": run_dir, "save_dir": str(run_dir), "done": done}
    for number, logger in enumerate(config.trainer.logger):
        with naming(f"trainer.logger.{number}"):
            maker, name = find("logger", logger.name), logger.name
            given = {**named_by(maker, own), **logger.args}
            # a function may call the folder what it likes
            folder = [] if {"run_dir", "save_dir"} & {*given} or not takes_first(maker) else [run_dir]
            check_signature(name, signature_of(partial(maker, *folder)), logger.args, given)
            made.append(construct(name, partial(maker, *folder), given))
            if not isinstance(made[-1], Logger):
                raise UserError(f"{named()}: {name!r} makes a {type(made[-1]).__name__}, which is no Lightning logger")
    return made
