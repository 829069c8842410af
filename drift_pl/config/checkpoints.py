"""The checkpoints of a run on disk: which files are meant, and to which run they belong. No torch."""

import difflib
import glob
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from drift_pl.config.experiments import read_mapping
from drift_pl.config.identity import differences, identity_in_0_1, run_settings
from drift_pl.config.loading import build_config
from drift_pl.config.own_run import CONFIG, run_folder_of
from drift_pl.config.schema import Config
from drift_pl.core.checkpoint_files import FOLDER, LAST, numbered
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path

SHOWN = 10
"""Most names that a message lists."""


def find_checkpoints(given: Sequence[str]) -> tuple[Path, list[Path]]:
    """A run's folder, and the checkpoints, each once.

    Args:
        given: run folders, checkpoint files and globs of either, all of one run.

    Raises:
        UserError: something does not exist (the message names what does), or they belong to different runs.
    """
    files = [file for name in given for file in _files(name)]
    files = list({file.resolve(): file for file in files}.values())
    if not files:
        raise UserError("ckpt_path=[] names no checkpoint: use e.g. ckpt_path=runs/shapes_div-d738dcc0-s0")
    runs = [_run_of(file) for file in files]
    for file, run_dir in zip(files, runs, strict=True):
        if run_dir.resolve() != runs[0].resolve():
            raise UserError(f"ckpt_path: {files[0]} and {file} are of different runs: evaluate one run at a time")
    by_name = {file.name: file for file in files}
    for file in files:
        if by_name[file.name] != file:
            raise UserError(f"ckpt_path: {file} and {by_name[file.name]} have one name: give one of them")
    return runs[0], files


def find_checkpoint(given: str) -> tuple[Path, Path]:
    """A run's folder and one checkpoint; of a folder, the last.

    Raises:
        UserError: there is none, or a pattern matches several.
    """
    run_dir, paths = find_checkpoints([given])
    if len(paths) > 1 and not local_path(given).is_dir():
        names = ", ".join(path.name for path in paths[:8])
        raise UserError(f"ckpt_path={given} matches {len(paths)} checkpoints ({names}): give one of them")
    return run_dir, paths[-1]  # last.ckpt is the newest; where there is none, the highest number is


def refuse_other_settings(content: Mapping[str, Any], path: Path, config: Config, same: Collection[str] = ()) -> None:
    """A checkpoint that is resumed under other settings would be a run that no config describes.

    Args:
        content: of the checkpoint.
        config: the settings to resume it under.
        same: settings that name files with the run's content, wherever they are.

    Raises:
        UserError: the seed or a setting that shapes results differs; the message names it with both values.
    """
    theirs = content.get("run_settings")
    if theirs is None:
        file = _run_of(path) / CONFIG
        refuse_foreign_checkpoint(content, path, file)
        theirs = run_settings(build_config([("experiment", str(file))]))
    different = differences(theirs, run_settings(config), same=same)
    if different:
        raise UserError(
            f"ckpt_path={path} belongs to a run with other settings: {different}; resume it with its own, or start "
            "another run without ckpt_path; trainer.iterations may be raised freely"
        )


def refuse_foreign_checkpoint(content: Mapping[str, Any], path: Path, config_file: Path) -> None:
    """A checkpoint must belong to the run that wrote the config.yaml beside it.

    Checkpoints of version 0.1 hold a hash of their settings only; it is compared with the hash of the file as written,
    and with that of the settings that it holds now.

    Raises:
        UserError: it belongs to another run.
    """
    config = build_config([("experiment", str(config_file))])
    identity, theirs = content["run_identity"], content.get("run_settings")
    if theirs is None:
        known = [identity_in_0_1(settings) for settings in (read_mapping(config_file), config.model_dump())]
        different = "" if identity in known else f"it is marked {identity}, and the file's mark is {known[0]}"
    else:
        different = differences(theirs, run_settings(config), "in the file")
    if different:
        raise UserError(
            f"ckpt_path={path} is of the run {identity}, and the config.yaml beside it is of another: {different}; "
            "give checkpoints in the folder of their own run"
        )


def _files(name: str) -> list[Path]:
    """Checkpoints of one entry of `ckpt_path`."""
    path = local_path(name)
    if path.is_file():
        return [path]
    if path.is_dir():
        return _of_folder(path)
    if glob.has_magic(name):
        found = map(Path, sorted(glob.glob(str(path))))
        files = [file for match in found if match.is_dir() or match.suffix == ".ckpt" for file in _files(str(match))]
        if files:
            return files
    raise UserError(f"ckpt_path={name}: no such file or folder; {_nearby(path)}")


def _of_folder(folder: Path) -> list[Path]:
    """Numbered checkpoints, then last.ckpt, of a run's folder or of the one in it that holds them."""
    inside = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    files = [*numbered(inside), *inside.glob(LAST)]
    if files:
        return files
    if (folder / CONFIG).is_file():
        raise UserError(f"ckpt_path={folder}: the run has no checkpoint yet; continue it with fit ckpt_path={folder}")
    raise UserError(f"ckpt_path={folder} holds no {CONFIG} and no checkpoint; {_nearby(folder / '*')}")


def _run_of(file: Path) -> Path:
    """The folder with the config.yaml of a checkpoint's run."""
    folder = run_folder_of(file)
    if (folder / CONFIG).is_file():
        return folder
    raise UserError(
        f"ckpt_path={file}: there is no {CONFIG} beside it or one folder up: give a checkpoint in its run's folder, "
        "RUN/checkpoints/last.ckpt"
    )


def _nearby(path: Path) -> str:
    """What could have been meant: the nearest name, or the checkpoints and runs in the first folder that exists."""
    missing = path.absolute()
    while not missing.parent.is_dir():
        missing = missing.parent
    folder = missing.parent
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    close = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.75)
    if close:
        return f"did you mean {folder / close[0]}?"
    found = [*(file.name for file in folder.glob("*.ckpt")), *(file.parent.name for file in folder.glob(f"*/{CONFIG}"))]
    if not found:
        return "give a folder that python -m drift_pl.fit made, e.g. ckpt_path=runs/shapes_div-d738dcc0-s0"
    names = sorted(found)
    names = names if len(names) <= SHOWN else [*names[: SHOWN - 2], "...", names[-1]]
    return f"{folder} holds {', '.join(names)}"
