"""The folder of a run: where it is, whether it may be used, what it starts from."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drift_pl.config.checkpoints import find_checkpoints
from drift_pl.config.identity import default_run_dir
from drift_pl.config.inputs import MARK
from drift_pl.config.own_run import CONFIG, run_folder_of
from drift_pl.config.paths import absolute, with_absolute_paths
from drift_pl.config.processes import is_first_launched
from drift_pl.config.schema import Config
from drift_pl.core import checkpoint_files
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path

SUMMARY_MEASURES = (
    "reward", "pairwise_distance", "valid_pairwise_distance", "pairwise_lpips", "vendi", "alignment", "coverage",
    "styles",
)  # fmt: skip
"""What tables show of `summary.json`, in this order; it may hold more, and not every run has all."""
MEASURED = ("encoder", "test_prompts", "images_per_prompt", "images")
"""What `summary.json` of runs that can be compared has in common."""
HELD_OUT = "heldout/"
SUMMARY, REPORT = "summary.json", "report.html"
"""What a run writes last."""


def shown_measures(*values: Mapping[str, Any]) -> list[str]:
    """What tables show of values that all have: `SUMMARY_MEASURES`, then rewards that were never trained on."""
    shared = [name for name in values[0] if all(name in other for other in values)]
    return [name for name in SUMMARY_MEASURES if name in shared] + [n for n in shared if n.startswith(HELD_OUT)]


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and what it starts from.

    Attributes:
        resume_from: the checkpoint that it goes on from; None: from the beginning.
        takes_over: it holds what an earlier try left of which nothing was trained.
    """

    path: Path
    resume_from: Path | None
    takes_over: bool = False


def run_path(config: Config) -> Path:
    """Where a run lives."""
    return local_path(config.run_dir) if config.run_dir else default_run_dir(config)


def choose_run_folder(config: Config) -> RunFolder:
    """Decides what a run starts from, before anything is written.

    Raises:
        UserError: the folder holds another run, or there is nothing to resume from.
    """
    path, given = run_path(config), config.ckpt_path
    named = local_path(given) if given and given not in ("last", "auto") else path
    if not named.exists() and named != path:
        find_checkpoints([str(given)])  # says what there is
    source = run_folder_of(named)
    newest = named if named.is_file() else checkpoint_files.newest(source)
    begun = any((path / name).is_file() for name in (CONFIG, MARK))
    if newest is not None and given is not None:
        return RunFolder(path, newest)
    if is_first_launched(config) and (newest is not None or (path / SUMMARY).exists()):
        raise UserError(
            f"run_dir={path} already holds a run: resume it with {resume_command(path)}, or give another folder, "
            f"e.g. run_dir={path}-2"
        )
    if given in (None, "auto") or (source == path and begun):
        return RunFolder(path, None, begun)
    if given != "last":
        find_checkpoints([str(given)])
    raise UserError(
        f"ckpt_path={given}: there is no run in {path}; give its folder, ckpt_path=RUN_FOLDER, or start without "
        "ckpt_path, or use ckpt_path=auto"
    )


def resume_command(path: Path, *overrides: str) -> str:
    """How to go on with a run, quoted for the shell."""
    name = str(path) if path.is_absolute() or len(path.parts) > 1 else f"./{path}"
    return shlex.join(["python", "-m", "drift_pl.fit", f"ckpt_path={name}", *overrides])


def settings_to_keep(config: Config, tree: dict[str, Any] | None = None) -> dict[str, Any]:
    """The settings of a run as they were written, but for absolute names of local files."""
    settings = with_absolute_paths(tree or config.published.model_dump())
    if settings.get("run_dir"):
        settings["run_dir"] = absolute(settings["run_dir"])
    return settings | {"ckpt_path": None}
