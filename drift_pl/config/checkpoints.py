"""The checkpoints of a finished or running run on disk: which files are meant, and whose they are. No torch."""

import difflib
import glob
from collections.abc import Sequence
from pathlib import Path

from drift_pl.config.arguments import settings_hash
from drift_pl.config.literals import load_yaml
from drift_pl.core.errors import UserError

CONFIG = "config.yaml"
SHOWN = 10
"""Most names that a message lists."""


def find_checkpoints(given: Sequence[str]) -> tuple[Path, list[Path]]:
    """A run's folder, and the checkpoints that are meant, each once.

    Args:
        given: run folders, checkpoint files and globs of either, all of one run.

    Raises:
        UserError: something does not exist (the message names what does), or they are not of one run.
    """
    files = [file for name in given for file in _files(name)]
    files = list({file.resolve(): file for file in files}.values())
    runs = [_run_of(file) for file in files]
    for file, run_dir in zip(files, runs, strict=True):
        if run_dir.resolve() != runs[0].resolve():
            raise UserError(f"ckpt_path: {files[0]} and {file} are of different runs: evaluate one run at a time")
    by_name = {file.name: file for file in files}
    for file in files:
        if by_name[file.name] != file:
            raise UserError(f"ckpt_path: {file} and {by_name[file.name]} have one name: give one of them")
    return runs[0], files


def recorded_identity(config_file: Path) -> str:
    """What checkpoints of the run that wrote this config.yaml are marked with.

    It is `run_identity` of the config as it was written, and not as it is read today: a setting that the package has
    gained since is not in it, and does not make the run another one.
    """
    settings = load_yaml(config_file.read_text(encoding="utf-8"))
    seed = settings.get("seed")
    return f"{settings_hash(settings)}-s{seed}"


def _files(name: str) -> list[Path]:
    """Checkpoints of one entry of `ckpt_path`."""
    path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        return _of_folder(path)
    if glob.has_magic(name):
        found = map(Path, sorted(glob.glob(str(path))))
        files = [file for match in found if match.is_dir() or match.suffix == ".ckpt" for file in _files(str(match))]
        if files:
            return files
        raise UserError(f"ckpt_path={name}: no checkpoint matches; {_there(path)}")
    raise UserError(f"ckpt_path={name}: no such file or folder; {_there(path)}")


def _of_folder(folder: Path) -> list[Path]:
    """Numbered checkpoints, then last.ckpt; `folder` is the run's, or the one in it that holds them."""
    inside = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    files = [*sorted(inside.glob("iteration-*.ckpt")), *inside.glob("last.ckpt")]
    if files:
        return files
    if (folder / CONFIG).is_file():
        raise UserError(f"ckpt_path={folder}: the run has no checkpoint yet: go on with fit ... ckpt_path=auto")
    raise UserError(f"ckpt_path={folder} holds no {CONFIG} and no checkpoint: it is no run's; {_runs_in(folder)}")


def _run_of(file: Path) -> Path:
    """The folder whose config.yaml says how the policy of a checkpoint is built."""
    for folder in (*list(file.parents)[:2], *list(file.absolute().parents)[:2]):
        if (folder / CONFIG).is_file():
            return folder
    raise UserError(
        f"ckpt_path={file}: there is no {CONFIG} beside it or one folder up, which says how to build its policy: give "
        "a checkpoint in its run's folder, RUN/checkpoints/last.ckpt"
    )


def _there(path: Path) -> str:
    """What could have been meant: the checkpoints that are there, the nearest name, or the runs that are there."""
    missing = path.absolute()
    while not missing.parent.is_dir():
        missing = missing.parent
    folder = missing.parent
    checkpoints = sorted(file.name for file in folder.glob("*.ckpt"))
    if checkpoints:
        return f"there are {_listed(checkpoints)}"
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    close = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.75)
    if close:
        meant = folder / close[0]
        return f"did you mean {meant.relative_to(Path.cwd()) if meant.is_relative_to(Path.cwd()) else meant}?"
    return _runs_in(folder)


def _runs_in(folder: Path) -> str:
    runs = sorted(file.parent.name for file in folder.glob(f"*/{CONFIG}"))
    if runs:
        return f"there are the runs {_listed(runs)} in {folder}"
    return "give a folder that python -m drift_pl.fit made, e.g. ckpt_path=runs/shapes_div-bf23135e-s0"


def _listed(names: list[str]) -> str:
    return ", ".join(names if len(names) <= SHOWN else [*names[: SHOWN - 2], "...", names[-1]])
