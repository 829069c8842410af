"""Which run a command line resumes: its own config stands before the other arguments, as in the other commands."""

from collections.abc import Iterable
from pathlib import Path

from drift_pl.core.checkpoint_files import newest
from drift_pl.core.files import local_path

CONFIG = "config.yaml"
Pairs = list[tuple[str, str]]


def with_own_config(pairs: Iterable[tuple[str, str]]) -> Pairs:
    """Arguments of `fit` with what `ckpt_path` says beside them: the config and the folder of the run that it names.

    That is done for `ckpt_path=RUN_FOLDER`, for a checkpoint in its run's folder, and for `run_dir=RUN_FOLDER` with
    `ckpt_path=last` or, if there is a checkpoint, `auto`. An `experiment` or a `run_dir` that was given counts.
    """
    pairs = list(pairs)
    given = dict(pairs)
    run_dir = _run_dir(given.get("ckpt_path", ""), given.get("run_dir", ""))
    if run_dir is None or not (run_dir / CONFIG).is_file():
        return pairs
    config = [] if "experiment" in given else [("experiment", str(run_dir / CONFIG))]
    return [*config, *pairs, *([] if "run_dir" in given else [("run_dir", str(run_dir))])]


def run_folder_of(path: Path) -> Path:
    """The run's folder of a checkpoint, of the folder that holds checkpoints, or the folder itself."""
    above = [path, *list(path.parents)[:2], *list(path.absolute().parents)[:2]]
    return next((folder for folder in above if (folder / CONFIG).is_file()), path)


def earlier_folder(ckpt_path: str | None) -> Path | None:
    """The folder of the run that `ckpt_path` names to go on from, maybe in another folder; None if it names none."""
    return None if ckpt_path in (None, "last", "auto") else run_folder_of(local_path(ckpt_path))


def _run_dir(ckpt_path: str, run_dir: str) -> Path | None:
    if ckpt_path in ("last", "auto"):
        folder = local_path(run_dir) if run_dir else None
        return folder if folder and (ckpt_path == "last" or newest(folder)) else None
    path = local_path(ckpt_path)
    return run_folder_of(path) if ckpt_path and path.exists() else None
