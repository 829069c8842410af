"""A run that goes on: whether a checkpoint and a folder are its own, and what is left to do."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from drift_pl.config.checkpoints import refuse_other_settings
from drift_pl.config.identity import run_identity
from drift_pl.config.inputs import RunMark, kept_file, kept_mark
from drift_pl.config.loading import build_config
from drift_pl.config.own_run import CONFIG, run_folder_of
from drift_pl.config.run_folder import REPORT, SUMMARY, RunFolder, resume_command
from drift_pl.config.schema import Config
from drift_pl.core import checkpoint_files
from drift_pl.core.errors import UserError
from drift_pl.core.json_files import read_json

Left = Literal["training", "evaluation", "report", "nothing"]


def same_run(content: Mapping[str, Any], folder: RunFolder, config: Config, now: RunMark) -> RunMark:
    """The mark of the run that a checkpoint is of; warns of other weights under the same names.

    Args:
        content: of the checkpoint.
        now: the mark that the config has.

    Raises:
        UserError: the config, or a prompt list, is another run's, or the folder holds another run.
    """
    path, identity = folder.resume_from, content["run_identity"]
    assert path is not None
    source = run_folder_of(path)
    earlier = content.get("run_inputs") or getattr(kept_mark(source), "inputs", {})
    refuse_other_settings(content, path, config, now.same(earlier))
    for key in now.changed(earlier):
        if key in now.lists:
            kept = kept_file(source, key)
            raise UserError(
                f"{key}: the file has changed since the run of ckpt_path={path} began: put it back, "
                + (f"or give the run's own, {key}={kept}" if kept.is_file() else "or start another run")
            )
        print(f"warning: {key}: these are not the files that the run began with", file=sys.stderr)
    _refuse_foreign_folder(folder, identity, config)
    return now.of_run(identity)


def what_is_left(folder: RunFolder, config: Config, mark: RunMark, done: int, stopped: str | None) -> Left:
    """Whether a run is to be trained, or only to be evaluated or to get its report, or is complete.

    Args:
        done: iterations of the checkpoint; 0 without one.
        stopped: why the run has ended before its length; None if it has not.

    Raises:
        UserError: it is complete, and `ckpt_path` is not `auto`.
    """
    iterations = config.trainer.iterations
    trained = done >= iterations or stopped is not None
    if trained and not _is_summarised(folder.path, (mark.identity, run_identity(config)), done):
        return "evaluation"
    complete = trained and (done >= iterations or config.ckpt_path == "auto")
    if complete and not (folder.path / REPORT).is_file():  # it was killed between its summary and its report
        return "report"
    if complete and config.ckpt_path == "auto":
        return "nothing"
    if complete:
        raise UserError(
            f"ckpt_path: this run already has {done} of trainer.iterations={iterations}; extend it with e.g. "
            + resume_command(folder.path, f"trainer.iterations={done + config.trainer.save_every}")
        )
    return "training"


def _refuse_foreign_folder(folder: RunFolder, identity: str, config: Config) -> None:
    """A run that goes on in another folder must not overwrite what that one holds.

    Raises:
        UserError: the folder holds another run.
    """
    path = folder.path
    if checkpoint_files.newest(path) is None and not (path / SUMMARY).exists():
        return
    there = _identity_of(path)
    if there not in (identity, run_identity(config)):
        raise UserError(
            f"run_dir={path} holds the run {there}, and ckpt_path={config.ckpt_path} is of the run {identity}: give "
            f"another folder, e.g. run_dir={path}-2"
        )


def _identity_of(path: Path) -> str:
    mark, file = kept_mark(path), path / CONFIG
    if mark is not None:
        return mark.identity
    return run_identity(build_config([("experiment", str(file))])) if file.is_file() else "unknown"


def _is_summarised(path: Path, identities: Collection[str], iterations: int) -> bool:
    """Whether a folder has the summary of this run, written after exactly `iterations` iterations."""
    try:
        summary = read_json(path / SUMMARY)
        identity = f"{summary['config_hash']}-s{summary['seed']}"
        return identity in identities and summary["iterations"] == iterations
    except (ValueError, KeyError, TypeError):
        return False
