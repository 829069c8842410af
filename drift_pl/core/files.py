"""Atomic writes of files and folders: written beside their target, synced, renamed."""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drift_pl.core.errors import UserError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Temporary path beside `target` to write a file to; replaces `target` on success, is removed on failure.

    A kill or a power failure leaves either the old file or the new one. Parent folders are created as needed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, indent: int = 2) -> None:
    """Writes JSON atomically, see `replacing`; JSON has no NaN: null stands for it, and for infinities."""
    write_text(path, json.dumps(finite(content), indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def finite(content: Any) -> Any:
    """Dicts and lists with None in place of numbers that are not finite."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def refuse_taken(out: Path) -> None:
    """Checks that an output folder is new or empty.

    Raises:
        UserError: it is not empty, or not a folder.
    """
    if out.is_dir():
        if any(out.iterdir()):
            raise UserError(f"out={out} is not empty: give a new folder, e.g. out={free_name(out)}")
    elif out.exists() or out.is_symlink():
        raise UserError(f"out={out} is not a folder: give a new one, e.g. out={free_name(out)}")


def free_name(folder: Path) -> Path:
    """The folder itself if it does not exist, else its name with the first free number from 2."""
    candidate, number = folder, 1
    while candidate.exists() or candidate.is_symlink():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Temporary folder beside `out` to write into; becomes `out` on success, is removed on failure.

    Raises:
        UserError: `out` is not empty, or cannot be written.
    """
    refuse_taken(out)
    target = Path(os.path.realpath(out))
    temporary = _beside(target)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"out={out} cannot be written ({error.strerror or error}): give another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(target: Path) -> Path:
    """A name private to this process in the target's folder, so that the rename is atomic."""
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def remove_temporaries(folder: Path) -> None:
    """Removes what processes that were killed have left in a folder, and in those in it; nobody may write there."""
    for file in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        if file.is_file():
            file.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
