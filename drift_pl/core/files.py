"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drift_pl.core.errors import UserError


def refuse_taken(out: Path) -> None:
    """A folder to be written is new or empty.

    Raises:
        UserError: it holds something, or is a file.
    """
    if out.is_dir():
        if any(out.iterdir()):
            raise UserError(f"out={out} is not empty: give a new folder, e.g. out={free_name(out)}")
    elif out.exists() or out.is_symlink():
        raise UserError(f"out={out} is not a folder: give a new one, e.g. out={free_name(out)}")


def free_name(folder: Path) -> Path:
    """The folder itself if nothing is there, or it with the first free number from 2 on."""
    candidate, number = folder, 1
    while candidate.exists() or candidate.is_symlink():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, beside `out`; it takes `out`'s place at the end, and is gone if anything fails.

    Raises:
        UserError: `out` is taken, or nothing can be written there.
    """
    refuse_taken(out)
    target = Path(os.path.realpath(out))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"out={out} cannot be written ({error.strerror or error}): give another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
