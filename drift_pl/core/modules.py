"""Modules by their names, found and read as text: nothing is imported, so nothing that they do happens."""

import ast
import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

from drift_pl.core.errors import UserError, named


def is_module(name: str) -> bool:
    """Whether there is a module of this dotted name; none of its parts is imported."""
    return sys.modules.get(name) is not None or _spec(name) is not None


def package_folders(name: str) -> list[Path]:
    """The folders of a package, which is not imported; of a module, or of nothing, none."""
    spec = _spec(name)
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def refuse_missing_thing(name: str) -> None:
    """Checks that a module has a class or function of a name, by its source alone: importing it would run it.

    Args:
        name: `package.module:Thing`.

    Raises:
        UserError: there is no such module, Python cannot read it, or it does not speak of such a thing.
    """
    module, _, thing = name.partition(":")
    if not is_module(module):
        raise UserError(
            f"{named(repr(name))} cannot be imported: No module named {module!r}; give module:Thing of an installed "
            "package, or of a file in the working folder"
        )
    file = source_file(module)
    tree = read_source(file, name) if file else None
    if not thing.isidentifier():
        raise UserError(f"{named(repr(name))} cannot be imported: give the name of a class or function, {module}:Thing")
    if tree is not None and file is not None:
        text = file.read_text(encoding="utf-8", errors="replace")
        if not re.search(rf"\b{thing}\b|import \*|__getattr__|globals\(", text):
            raise UserError(f"{named(repr(name))} cannot be imported: {file} has no {thing!r}")


def _spec(name: str) -> ModuleSpec | None:
    """The spec of a module; each part is looked for in the folders of the part before."""
    first, *rest = name.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        return None
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):  # a module that somebody has made by hand
        return None
    whole = first
    for part in rest:
        whole = f"{whole}.{part}"
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = _spec_in(whole, [*spec.submodule_search_locations])
    return spec


def _spec_in(name: str, folders: list[str]) -> ModuleSpec | None:
    """The spec of a module whose package has these folders."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
    try:
        return next((found for finder in finders if (found := finder.find_spec(name, folders))), None)
    except KeyError:  # a folder without __init__.py, of which Python wants the package imported
        spec = ModuleSpec(name, None, is_package=True)
        inside = [Path(folder) / name.rpartition(".")[2] for folder in folders]
        spec.submodule_search_locations = [str(folder) for folder in inside if folder.is_dir()]
        return spec


def source_file(module: str) -> Path | None:
    """The Python file of a module; None if it is of another kind."""
    spec = _spec(module)
    if spec is None or not spec.has_location or not str(spec.origin).endswith(".py"):
        return None
    return Path(str(spec.origin))


def read_source(file: Path, name: str) -> ast.Module | None:
    """A file's statements; None if it cannot be read at all, which the import will say.

    Raises:
        UserError: it is not Python.
    """
    try:
        return ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise UserError(
            f"{named(repr(name))} cannot be imported: {type(error).__name__}: {reason} ({file}{line})"
        ) from error
    except (OSError, RecursionError, MemoryError):
        return None
