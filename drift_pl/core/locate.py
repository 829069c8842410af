"""Locations of weights and prompt files as one string: a hub id, a local path or a file of an installed package.

A hub id may name a branch, tag or commit: `organisation/model@REVISION`.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from drift_pl.core.errors import UserError, causes, named
from drift_pl.core.files import local_path, refused
from drift_pl.core.modules import is_module, package_folders
from drift_pl.core.shared_parts import whole_folder

Loaded = TypeVar("Loaded")

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""Its byte order marks."""


NETWORK = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")
"""What raises errors of connections, which are no OSError everywhere."""


def locate(name: str, wanted: str = "a folder that does, or a hub id like org/model") -> str:
    """A path for `pkg:PACKAGE/FOLDER` and for local paths; a hub id unchanged.

    Args:
        name: `pkg:drift_pl.builtin/weights/pipeline`, `./my_model`, `/data/my_model` or `organisation/model`.
        wanted: what to give, for the error if there is none.

    Raises:
        UserError: the package or the path does not exist.
    """
    if name.startswith("pkg:"):
        package, _, inside = name.removeprefix("pkg:").partition("/")
        folders = package_folders(package)
        if not folders:
            raise UserError(
                f"{named(name)}: there is no installed package {package!r}; give pkg:PACKAGE/FOLDER, or a path"
            )
        path = next((folder / inside for folder in folders if (folder / inside).exists()), folders[0] / inside)
        path = whole_folder(path)
    elif name.startswith((".", "/", "~")) or Path(name).exists():
        path = local_path(name)
    else:
        return name
    if not path.exists():
        raise UserError(f"{named(name)}: {path} does not exist; give {wanted}")
    return str(path)


def read_text(name: str, content: str) -> str:
    """Text of a UTF-8 file, without a byte order mark; line ends are those of Unix.

    Args:
        name: a path, or pkg:PACKAGE/FILE.
        content: description of the expected file, for the error if there is none.

    Raises:
        UserError: there is no such file, or it is not text.
    """
    path = Path(locate(name, content))
    if not path.is_file():
        raise UserError(f"{named(name)}: no such file; give {content}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{named()}: {refused(error)}") from error
    if data.startswith(UTF_16) or b"\0" in data:
        raise UserError(f"{named(name)} is not a UTF-8 text file (UTF-16 or not text at all): save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{named(name)} is not a UTF-8 text file (byte {error.start} cannot be read)") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def split_revision(name: str) -> tuple[str, dict[str, str]]:
    """A hub id without its revision, and the arguments for a loader: `{"revision": branch, tag or commit}` or none."""
    name, _, revision = name.partition("@")
    return name, {"revision": revision} if revision else {}


def load_pretrained(loader: Callable[..., Loaded], name: str) -> Loaded:
    """`loader(location)`, with failures reported in one line that names the setting (see `naming`).

    A hub id may be pinned, `organisation/model@REVISION`: the loader then gets `revision=` as well.

    Raises:
        UserError: nothing there can be loaded; or the hub cannot be reached, has no such model, or requires its licence
            to be accepted first.
    """
    location = locate(name)
    location, pinned = (location, {}) if Path(location).exists() else split_revision(location)
    try:
        return loader(location, **pinned)
    except UserError:
        raise
    except Exception as error:  # of a damaged file: whatever its reader raises
        if type(error).__name__ == "OutOfMemoryError":  # by name: this module does not import torch
            raise
        if Path(location).exists():
            raise UserError(f"{named(name)}: cannot be loaded: {_reason(error)}") from error
        folder = named("/path/to/folder")
        kinds = {type(cause).__name__ for cause in causes(error)}
        if "GatedRepoError" in kinds:
            raise UserError(
                f"{named(name)}: this model is gated: accept its terms at https://huggingface.co/{location} and log in "
                f"(hf auth login, or HF_TOKEN in the environment), or give a local folder, {folder}"
            ) from error
        if "RepositoryNotFoundError" in kinds:
            raise UserError(
                f"{named(name)}: neither a folder nor a model on the hub (or a private one: log in with hf auth "
                f"login); check the name, org/model, or give a local folder, {folder}"
            ) from error
        offline = type(error).__module__.partition(".")[0] in NETWORK
        if not (offline or isinstance(error, OSError | ValueError | KeyError | RuntimeError)):  # a damaged copy, cached
            raise UserError(f"{named(name)}: what the hub gave cannot be loaded: {_reason(error)}") from error
        raise UserError(
            f"{named(name)}: no such folder, and it could not be fetched from the hub ({first_line(error)}); "
            f"without network access give a local folder, {folder}"
        ) from error


def _reason(error: Exception) -> str:
    """The message of an error of a library; of one that is no sentence, its kind as well."""
    line = first_line(error)
    return line if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: {line}"


def refuse_missing_extra(module: str, extra: str, value: str | None = None) -> None:
    """`import_extra` without the import: whether an optional package is installed."""
    if not is_module(module):
        raise _needs(module, extra, value)


def import_extra(module: str, extra: str, value: str | None = None) -> Any:
    """Imports an optional package.

    Args:
        module: the module to import.
        extra: the extra of this package that installs it.
        value: value of the setting that needs it, for the error message.

    Raises:
        UserError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _needs(module, extra, value, f" ({error})") from error


def _needs(module: str, extra: str, value: str | None, reason: str = "") -> UserError:
    return UserError(f"{named(value)} needs the package {module}: pip install 'drift-pl[{extra}]'{reason}")


def first_line(error: BaseException) -> str:
    """First non-empty line of an error's message, at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
