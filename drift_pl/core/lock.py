"""One process at a time in a folder: a lock file that names its holder and shows that it is alive."""

import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from drift_pl.core.errors import UserError
from drift_pl.core.files import made_folder
from drift_pl.core.mutex import alone_in

NAME = ".lock"
REFRESH = 10.0
STALE = 60.0
"""Seconds: a holder touches its file every `REFRESH`; one on another host that has not done so for `STALE` is gone."""
JOB = "SLURM_JOB_ID"
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""Of a file system without hard links."""


class FolderLock:
    """A lock that is held; its thread keeps it fresh.

    Args:
        folder: what is locked.
        setting: what names the folder, for messages.
        holder: who holds it, as the file says.
    """

    def __init__(self, folder: Path, setting: str, holder: dict[str, Any]) -> None:
        self._file, self._setting, self._holder = folder / NAME, setting, holder
        self._lost, self._done = False, threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="folder-lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Checks that this process still holds the folder, before something is written to it.

        Raises:
            UserError: the folder is gone, or another process has taken it over because this one stood still. Whatever
                is written to it now would be lost, or would spoil what is there.
        """
        folder = self._file.parent
        if self._lost:
            raise UserError(f"{folder} was taken over by another process while this one stood still")
        try:
            self._file.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self._setting}={folder} is gone, or {NAME} in it: removed, renamed or unmounted while it was in "
                "use; put it back and resume the run, or start again"
            ) from None
        except OSError:
            pass  # a file system that does not answer now may do so soon

    def release(self) -> None:
        self._done.set()
        self._thread.join()
        if _read(self._file) == self._holder:
            self._file.unlink(missing_ok=True)

    def _refresh(self) -> None:
        while not self._done.wait(REFRESH):
            with suppress(OSError):  # a file system that does not answer now may do so in ten seconds
                other = _read(self._file)
                self._lost = self._lost or (other is not None and other != self._holder)
                if not self._lost:
                    os.utime(self._file)


@contextmanager
def hold(folder: Path, setting: str) -> Iterator[FolderLock]:
    """Holds a folder's lock; folders that were made for it and are empty at the end are removed.

    On the holder's own host its process decides whether it is alive. A job that SLURM has started again takes over at
    once from where it ran before.

    Args:
        setting: what names the folder, for the message.

    Raises:
        UserError: another process holds it; or it is gone when the block fails.
    """
    with made_folder(folder):
        with alone_in(folder):  # of several that find the lock of one that is gone, one takes it over
            lock = _acquire(folder, setting)
        try:
            yield lock
        except Exception:
            lock.check()  # what has failed in a folder that is gone is a consequence of that
            raise
        finally:
            lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process that is alive holds a folder's lock; writes nothing."""
    holder, me = _read(folder / NAME), _me()
    if holder is None:
        return False
    try:
        return _is_alive(holder, me | {"job": ""}, time.time() - (folder / NAME).stat().st_mtime)
    except FileNotFoundError:
        return False


def _acquire(folder: Path, setting: str) -> FolderLock:
    file, me = folder / NAME, _me()
    while True:
        try:
            _write(file, me)
        except FileExistsError:
            holder, age = _read(file), _age(file)
            if holder is None and age is None:  # released in this moment
                continue
            if _is_alive(holder or {}, me, age or 0.0):
                raise UserError(_refusal(folder, setting, holder or {}, me)) from None
            _take_away(file, holder)
            continue
        except OSError as error:  # no room
            raise OSError(error.errno, os.strerror(error.errno or 0), str(folder)) from error
        return FolderLock(folder, setting, me)


def _write(file: Path, me: dict[str, Any]) -> None:
    """Makes a lock that is whole from its first moment: a kill here must not leave one that names nobody.

    Raises:
        FileExistsError: there is one.
    """
    own = _beside(file)
    try:
        own.write_text(json.dumps(me), encoding="utf-8")
        os.link(own, file)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with file.open("x", encoding="utf-8") as opened:
            json.dump(me, opened)
    finally:
        own.unlink(missing_ok=True)


def _take_away(file: Path, holder: dict[str, Any] | None) -> None:
    """Removes the lock of a holder that is gone, and of no other: a third process may just have taken over."""
    aside = _beside(file)
    with suppress(FileNotFoundError):
        os.rename(file, aside)
        if _read(aside) != holder:
            with suppress(FileExistsError):
                os.link(aside, file)
        aside.unlink(missing_ok=True)


def _beside(file: Path) -> Path:
    """A name of its own; what a kill leaves under it counts as a temporary, see `remove_temporaries`."""
    return file.with_name(f"{NAME}.{uuid.uuid4().hex}.tmp")


def _is_alive(holder: dict[str, Any], me: dict[str, Any], age: float) -> bool:
    if _is_near(holder, me):
        started = _started(holder.get("pid"))
        return started is not None and started == holder.get("started")
    if me["job"] and holder.get("job") == me["job"]:
        return False
    return age < STALE


def _is_near(holder: dict[str, Any], me: dict[str, Any]) -> bool:
    """Whether process numbers mean the same to both. Two containers may share a host's name."""
    return all(holder.get(name) == me[name] for name in ("host", "namespace"))


def _refusal(folder: Path, setting: str, holder: dict[str, Any], me: dict[str, Any]) -> str:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', 'an unknown host')}"
    elsewhere = f" (it counts as gone after {STALE:.0f} s without a sign of life)" if not _is_near(holder, me) else ""
    return (
        f"{setting}={folder} is in use by {who}{elsewhere}: wait for it or stop it, or give another folder, e.g. "
        f"{setting}={folder}-2"
    )


def _me() -> dict[str, Any]:
    pid = os.getpid()
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "started": _started(pid),
        "namespace": namespace,
        "job": os.environ.get(JOB, ""),
        "id": uuid.uuid4().hex,
    }


def _started(pid: Any) -> str | None:
    """When a process of this host began, as the kernel counts: a number may be given to another one; None: it is gone.

    Zombies are gone. Without /proc, "" for a process that is there.
    """
    if not isinstance(pid, int) or pid <= 0:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def _read(file: Path) -> dict[str, Any] | None:
    """Who holds a lock; {} for a file that cannot be understood (it is just being written), None if there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _age(file: Path) -> float | None:
    """Seconds since a file was touched, by the clock of its file system; None if it is gone."""
    probe = _beside(file)
    try:
        probe.touch()
        return probe.stat().st_mtime - file.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)
