"""Paths that a user gives, and atomic writes of files and folders: written beside their target, synced, renamed."""

import errno
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from drift_pl.core.errors import UserError, causes, named

Contents = dict[Path, bytes | None]
"""Files and what is in them; None: there is no such file."""
ROOM = "make room and run it again; a run resumes from its last checkpoint, which is complete"
RIGHTS = "give a path that you may write to (or read from)"
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), RIGHTS),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is where a folder is needed: give another path"),
    errno.EISDIR: "a folder is where a file is needed: give another path",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "a link leads back to itself: give another path",
    errno.EINVAL: "give another path",
    errno.ENOENT: "give a path that exists",
    errno.ENOTEMPTY: "give a new folder",
    errno.EMFILE: "raise the limit on open files, e.g. ulimit -n 4096",
    errno.EIO: "the disk failed: give a path on another one",
    errno.ESTALE: "the file server lost it: run it again",
}
"""What to do when the file system refuses, by the number of its error."""


def local_path(text: str) -> Path:
    """A path as a user writes it; `~` and `~user` are expanded here and nowhere else.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{named(text)}: {text.partition('/')[0]} has no home folder here; give the whole path"
        ) from error


def refused(error: BaseException) -> str | None:
    """What a file system's refusal says to the user: the file, the reason, a remedy; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in REMEDIES:
        return None
    file = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
    return f"{file}{os.strerror(error.errno)}: {REMEDIES[error.errno]}"


def probe_folder(folder: Path) -> None:
    """Checks that a folder can be made and written to, and leaves nothing behind.

    Raises:
        OSError: it cannot; see `refused`.
    """
    with made_folder(folder), _written_beside(folder / "probe") as temporary:
        temporary.write_bytes(b"0")


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """A folder, made if it is not there; at the end, what was made for it and is empty is removed."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # never made, or something is in it by now
                path.rmdir()


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Temporary path beside `target` to write a file to; replaces `target` on success, is removed on failure.

    A kill or a power failure leaves either the old file or the new one. Parent folders are created as needed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _written_beside(target) as temporary:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
        _sync(target.parent)


@contextmanager
def _written_beside(target: Path) -> Iterator[Path]:
    """A new, empty file beside `target`, removed at the end if it is still there; errors name `target`."""
    temporary = _beside(target)
    try:
        # created here and exclusively: whatever writes to it next cannot follow somebody's link
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
    except Exception as error:
        refusal = _file_error(error)
        if refusal is None:
            raise
        raise OSError(refusal.errno, os.strerror(refusal.errno or 0), str(target)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def contents(paths: Iterable[Path]) -> Contents:
    """What is in files, for `put_back`."""
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


def put_back(before: Contents) -> None:
    """Undoes what has been written to files since."""
    for path, content in before.items():
        if content is None:
            path.unlink(missing_ok=True)
            continue
        with replacing(path) as temporary:
            temporary.write_bytes(content)


def copy_file(source: Path, target: Path) -> None:
    """Copies a file atomically, see `replacing`."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


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
    """Checks that an output folder is new or empty, and can be written.

    Raises:
        UserError: it is not empty, or not a folder.
        OSError: it cannot be written.
    """
    if out.is_dir():
        if any(out.iterdir()):
            raise UserError(f"out={out} is not empty: give a new folder, e.g. out={free_name(out)}")
    elif out.exists() or out.is_symlink():
        raise UserError(f"out={out} is not a folder: give a new one, e.g. out={free_name(out)}")
    probe_folder(out)


def free_name(folder: Path) -> Path:
    """The folder itself if it does not exist, else its name with the first free number from 2."""
    if folder.name in ("", ".."):  # of `.` and `/` there is no second
        folder = folder / "new"
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
    except Exception as error:
        refusal = _file_error(error)
        if refusal is None:
            raise
        reason = os.strerror(refusal.errno or 0)
        raise UserError(f"out={out} cannot be written ({reason}): give another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _file_error(error: BaseException) -> OSError | None:
    """The file system's error behind one of a library that was writing: torch and safetensors raise their own."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause
        number = re.search(r"\(os error (\d+)\)", str(cause))  # as Rust, and so safetensors, writes it
        if number:
            return OSError(int(number[1]), os.strerror(int(number[1])))
    return None


def _beside(target: Path) -> Path:
    """A name that nobody else can know or take, in the target's folder, so that the rename is atomic."""
    if not target.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    ending = f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
    return target.with_name(f".{target.name[:40]}{ending}")


def remove_temporaries(folder: Path) -> None:
    """Removes what processes that were killed have left in a folder, however deep; nobody may write there."""
    for file in list(folder.rglob(".*.tmp")):
        if file.is_file():
            file.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
