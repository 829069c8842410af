"""The folder of a run: where it is, whether it may be used, what it starts from."""

import os
from pathlib import Path
from typing import NamedTuple

from drift_pl.config.identity import default_run_dir
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path

SUMMARY_MEASURES = (
    "reward", "pairwise_distance", "valid_pairwise_distance", "pairwise_lpips", "vendi", "alignment", "coverage",
)  # fmt: skip
"""What tables show of `summary.json`, in this order; it may hold more, and not every run has all."""


class RunFolder(NamedTuple):
    """A run's folder and the checkpoint that it resumes from (None: it starts)."""

    path: Path
    resume_from: Path | None


def choose_run_folder(config: Config) -> RunFolder:
    """Decides where a run lives, before anything is written.

    Raises:
        UserError: the folder holds another run, or there is nothing to resume from.
    """
    path = local_path(config.run_dir) if config.run_dir else default_run_dir(config)
    last = path / "checkpoints" / "last.ckpt"
    if config.ckpt_path == "last" and not last.exists():
        raise UserError(f"ckpt_path=last: there is no {last}; start without ckpt_path, or use ckpt_path=auto")
    if config.ckpt_path in ("last", "auto"):
        return RunFolder(path, last if last.exists() else None)
    if config.ckpt_path:
        return RunFolder(path, local_path(config.ckpt_path))
    if is_first_process() and (last.exists() or (path / "summary.json").exists()):
        raise UserError(
            f"run_dir={path} already holds a run: resume it with ckpt_path=last, or give another folder, "
            f"e.g. run_dir={path}-2"
        )
    return RunFolder(path, None)


def is_first_process() -> bool:
    """False in the further processes that a launcher starts, which find the folder in use by the first."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
