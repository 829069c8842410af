"""The folder of a run: where it is, whether it may be used, what it starts from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drift_pl.config.identity import default_run_dir
from drift_pl.config.loading import config_yaml
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.files import write_text

SUMMARY_MEASURES = (
    "reward",
    "pairwise_distance",
    "valid_pairwise_distance",
    "pairwise_lpips",
    "vendi",
    "alignment",
    "coverage",
)
"""What tables show of `summary.json`, in this order; it may hold more, and not every run has all."""
HELD_OUT = "heldout/"


def shown_measures(*values: Mapping[str, Any]) -> list[str]:
    """What tables show of values that all have: `SUMMARY_MEASURES`, then rewards that were never trained on."""
    shared = [name for name in values[0] if all(name in other for other in values)]
    return [name for name in SUMMARY_MEASURES if name in shared] + [n for n in shared if n.startswith(HELD_OUT)]


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and the checkpoint it goes on from (None: from the beginning)."""

    path: Path
    resume_from: Path | None


def choose_run_folder(config: Config) -> RunFolder:
    """Decides where a run lives, before anything is written.

    Raises:
        UserError: the folder holds another run, or there is nothing to resume from.
    """
    path = Path(config.run_dir) if config.run_dir else default_run_dir(config)
    last = path / "checkpoints" / "last.ckpt"
    if config.ckpt_path == "last":
        if not last.exists():
            raise UserError(f"ckpt_path=last: there is no {last}; start without ckpt_path, or use ckpt_path=auto")
        return RunFolder(path, last)
    if config.ckpt_path == "auto":
        return RunFolder(path, last if last.exists() else None)
    if config.ckpt_path:
        return RunFolder(path, Path(config.ckpt_path))
    if is_first_process() and (last.exists() or (path / "summary.json").exists()):
        raise UserError(
            f"run_dir={path} already holds a run: resume it with ckpt_path=last, or give another folder, "
            f"e.g. run_dir={path}-2"
        )
    return RunFolder(path, None)


def is_first_process() -> bool:
    """False in the further processes that a launcher starts: these find the folder in use by the first."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def write_config(folder: RunFolder, config: Config, tree: dict[str, Any] | None = None) -> None:
    """Keeps the config beside the run's results; see `config_yaml`."""
    if not is_first_process():
        return
    write_text(folder.path / "config.yaml", config_yaml(config, tree))
