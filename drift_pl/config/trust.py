"""Settings of a file that make this machine run or tell something: taken from the user, not from whoever sent the file.

A name with a colon is code, `pkg:` reads the files of a package, a `url` beside a `token_env` is sent a token, and
`${oc.env:X}` reads a variable. On the command line they are the user's own. In a file they need one of

- `trust=true` on the command line;
- a run of this user on this machine: `fit` writes what it took to a register, `$XDG_STATE_HOME/drift_pl/runs`;
- an experiment file in the working folder, for modules of that folder and for environment variables (`fit` only).

What this package itself offers needs none of them, and neither do its own experiment files.
"""

import ast
import hashlib
import importlib.util
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from drift_pl.config.experiments import is_packaged
from drift_pl.config.own_run import CONFIG
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path, refused
from drift_pl.core.registry import TABLES

PACKAGE = Path(__file__).parents[1]
NAMES = ("name", "family", "kind", "loss", "method")
"""Keys whose value may be `package.module:Thing`."""


class Access(NamedTuple):
    """Something that a setting makes this machine do.

    Attributes:
        key: of the setting.
        shown: its value.
        does: what it does, for the message.
        module: the module that would be imported; empty for none.
        content: all that decides what happens.
    """

    key: str
    shown: str
    does: str
    module: str
    content: Any

    @property
    def digest(self) -> str:
        text = json.dumps([self.does, self.content], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def accesses(node: Any, key: str = "") -> Iterator[Access]:
    """What plain settings ask for, in which environment variables are named as `${oc.env:NAME}`."""
    if isinstance(node, str):
        if "${oc.env:" in node:
            yield Access(key, node, "reads an environment variable", "", node)
        if node.startswith("pkg:") and not _is_ours(node.removeprefix("pkg:").partition("/")[0]):
            yield Access(key, node, "reads files of a package", node.removeprefix("pkg:").partition("/")[0], node)
        if re.fullmatch(r"trainer\.logger\.\d+", key) and ":" in node and "${" not in node and not _is_offered(node):
            yield Access(key, node, "is code", node.partition(":")[0], [node, None])
        return
    if isinstance(node, dict):
        for word in NAMES:
            value = node.get(word)
            if isinstance(value, str) and ":" in value and "${" not in value and not _is_offered(value):
                shown = f"{key}.{word}".lstrip(".")
                yield Access(shown, value, "is code", value.partition(":")[0], [value, node.get("args")])
        if node.get("url") and node.get("token_env"):
            content = [node["url"], node["token_env"]]
            yield Access(f"{key}.url", str(node["url"]), f"is sent the content of {node['token_env']}", "", content)
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from accesses(value, f"{key}.{name}".lstrip("."))


def split_trust(pairs: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], bool]:
    """The other arguments, and what `trust` says: no file can set it.

    Raises:
        UserError: it is neither true nor false.
    """
    said = dict(pairs).get("trust", "false")
    if said not in ("true", "false"):
        raise UserError(f"trust={said} has the wrong type: expected bool; use e.g. trust=true")
    return [pair for pair in pairs if pair[0] != "trust"], said == "true"


def refuse_strangers(settings: Any, file_of: Callable[[str], str], by_fit: bool) -> None:
    """What files ask for must be the user's own.

    Args:
        settings: plain, with environment variables as `${oc.env:NAME}`.
        file_of: the file that last set a key; empty for an argument or a default.
        by_fit: whether the command is `fit`, which takes experiment files of the working folder.

    Raises:
        UserError: something is not; the message says how to allow it.
    """
    for access in accesses(settings):
        file = file_of(access.key)
        if access.key.endswith(".url"):  # who names the token on the command line has chosen
            file = file and file_of(access.key.removesuffix("url") + "token_env")
        if not file or is_packaged(Path(file)) or access.digest in _registered():
            continue
        if not (by_fit and _is_of_working_folder(access, Path(file))):
            raise UserError(
                f"{file}: {access.key}={access.shown} {access.does}, and no run of yours on this machine had it: "
                "add trust=true if you know who wrote this file (docs/sharing.md)"
            )


def register(settings: Any, run_dir: Path) -> None:
    """Notes what a run of this user asked for; a run that asks for nothing leaves no note."""
    new = {access.digest: access for access in accesses(settings)}
    lines = [f"{digest} {new[digest].key} {run_dir.absolute()}\n" for digest in new.keys() - _registered()]
    if not lines:
        return
    try:
        _register().parent.mkdir(parents=True, exist_ok=True)
        with _register().open("a", encoding="utf-8") as file:
            file.write("".join(sorted(lines)))
    except OSError as error:
        warnings.warn(f"{refused(error) or error}; commands on this run will need trust=true", stacklevel=2)


def _register() -> Path:
    folder = os.environ.get("XDG_STATE_HOME", "")
    return (Path(folder) if os.path.isabs(folder) else local_path("~/.local/state")) / "drift_pl" / "runs"


def _registered() -> set[str]:
    """Digests of what this user's runs asked for."""
    try:
        return {line.partition(" ")[0] for line in _register().read_text(encoding="utf-8").split("\n")}
    except (OSError, UserError, UnicodeDecodeError):
        return set()


def _is_ours(module: str) -> bool:
    return module == PACKAGE.name or module.startswith(f"{PACKAGE.name}.")


@cache
def _is_offered(name: str) -> bool:
    """Whether a name is one of this package's table, or a class of its built-in models.

    Nothing else in this package counts: `drift_pl.core.registry:create` would make anything, and an import that a
    module happens to hold belongs to somebody else.
    """
    module, _, thing = name.partition(":")
    if any(name == f"drift_pl.{entry.target}" for table in TABLES.values() for entry in table.values()):
        return True
    if not module.startswith("drift_pl.builtin.") or not module.replace(".", "").replace("_", "").isalnum():
        return False
    file = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    return any(isinstance(node, ast.ClassDef) and node.name == thing for node in tree.body)


def _is_of_working_folder(access: Access, file: Path) -> bool:
    """Whether the user's own files are meant: the experiment file and the module are in the working folder.

    Not if the module comes with the file, in a folder below the working folder: that may have been sent.
    """
    here = Path.cwd().resolve()
    if file.name == CONFIG or not file.resolve().is_relative_to(here) or access.key.endswith(".url"):
        return False
    if not access.module:
        return True
    try:  # of the first part alone: the search for a.b imports a
        spec = importlib.util.find_spec(access.module.partition(".")[0])
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    # `frozen` and `built-in` are origins, too, and no places
    own = [spec.origin] if spec.has_location and spec.origin else []
    places = [Path(place).resolve() for place in [*(spec.submodule_search_locations or []), *own]]
    folder = file.resolve().parent
    sent_along = folder != here and any(place.is_relative_to(folder) for place in places)
    return bool(places) and all(place.is_relative_to(here) for place in places) and not sent_along
