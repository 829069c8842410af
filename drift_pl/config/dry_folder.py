"""The folder of a dry run: emptied for the next one, and what is said of it at the end."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from drift_pl.config.experiments import read_mapping
from drift_pl.config.own_run import CONFIG
from drift_pl.config.run_folder import REPORT, SUMMARY
from drift_pl.config.schema import Config
from drift_pl.core import checkpoint_files
from drift_pl.core.errors import UserError
from drift_pl.core.lock import NAME as LOCK

KEY = "dry_run"


def clear_dry_run(run_dir: Path) -> None:
    """Empties the folder of an earlier dry run, whose lock is held.

    Raises:
        UserError: the folder holds something else.
    """
    if not (run_dir / CONFIG).is_file():
        return
    if read_mapping(run_dir / CONFIG).get(KEY) is not True:
        raise UserError(f"run_dir={run_dir} holds a run that is no dry run: rename it, or give another run_dir")
    for entry in run_dir.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def dry_run_report(run_dir: Path, config: Config, overrides: Sequence[str], seconds: str) -> str:
    """What a dry run did, and how to begin the real one."""
    images = config.prompts.per_iteration * config.prompts.group_size
    files = {"checkpoint": checkpoint_files.newest(run_dir), "summary": run_dir / SUMMARY, "report": run_dir / REPORT}
    written = [what for what, file in files.items() if file is not None and file.is_file()]
    command = ["python", "-m", "drift_pl.fit", *(one for one in overrides if not _is_dry(one))]
    lines = [
        f"\ndry run: {images} images sampled, scored and learnt from, the base and the tuned model measured, "
        f"{', '.join(written)} written; {seconds}",
        f"folder:  {run_dir} (the next dry run of these settings replaces it)",
        f"run it:  {shlex.join(command)}",
    ]
    micro_batch = config.objective.micro_batch
    if micro_batch == 0 or micro_batch > images:
        lines.insert(1, "memory:  a real micro-batch has more images than these, and so needs more memory")
    return "\n".join(lines)


def _is_dry(override: str) -> bool:
    return override.partition("=")[0] == KEY
