"""Folders of a package that share parts with another one, and are put together where these are missing.

A checkout has links for the shared parts; a wheel cannot hold links and leaves them out, so that it has no file twice.
Such a folder has a file `shared_parts`: a line with the other folder, relative to it, and a line for each part.
"""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from drift_pl.core.errors import UserError

SHARED_PARTS = "shared_parts"


@cache
def whole_folder(folder: Path) -> Path:
    """The folder, if nothing of it is missing; else one that this process has put together, until it ends.

    That has links to what either folder has, or copies where links are refused.

    Raises:
        UserError: the other folder lacks a part.
    """
    described = folder / SHARED_PARTS
    other, *parts = described.read_text(encoding="utf-8").split("\n") if described.is_file() else [""]
    missing = [part for part in parts if part and not (folder / part).exists()]
    if not missing:
        return folder
    for part in missing:
        if not (folder / other / part).exists():
            raise UserError(f"{folder} needs {part} of {other}, which is not there: install the package again")
    target = Path(tempfile.mkdtemp(prefix="drift_pl-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    for part in missing:
        _place(folder / other / part, target / part)
    for file in (path for path in folder.rglob("*") if path.is_file()):
        _place(file, target / file.relative_to(folder))
    return target


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(os.path.abspath(source), target_is_directory=source.is_dir())
    except OSError:  # a file system or a user without links
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
