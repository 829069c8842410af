"""Experiment files: where they are, what they are called, and the chain of files that one stands on."""

from pathlib import Path
from typing import Any

from drift_pl.config.yaml_text import load_yaml
from drift_pl.core.errors import UserError
from drift_pl.core.files import local_path


def experiments_folder() -> Path:
    """The experiments of an installed package, or those beside it in a source tree."""
    installed = Path(__file__).parents[1] / "experiments"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "experiments"


def is_packaged(path: Path) -> bool:
    """Whether an experiment file is one of this package's."""
    return path.resolve().is_relative_to(experiments_folder().resolve())


def list_experiments() -> dict[str, str]:
    """Name of each experiment and the first comment line of its file."""
    return {path.stem: _first_comment(path) for path in sorted(experiments_folder().glob("*.yaml"))}


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")


def load_experiment(name: str) -> list[tuple[Path, dict[str, Any]]]:
    """The files of an experiment, base first: (file, its difference to what stands before it).

    Raises:
        UserError: no such experiment, no YAML, no mapping, or files that are each other's base.
    """
    chain: list[tuple[Path, dict[str, Any]]] = []
    seen: list[Path] = []
    path: Path | None = find_experiment(name, Path.cwd())
    while path is not None:
        if path in seen:
            names = " -> ".join(entry.name for entry in [*seen, path])
            raise UserError(f"experiment files are each other's base: {names}; take one `base:` away")
        seen.append(path)
        difference = read_mapping(path)
        base = difference.pop("base", None)
        if base is not None and not isinstance(base, str):
            raise UserError(f"{path.name}: base={base!r} is not the name of an experiment, e.g. base: shapes_div")
        chain.append((path, difference))
        path = find_experiment(base, path.parent) if base else None
    return chain[::-1]


def find_experiment(name: str, folder: Path) -> Path:
    """File of an experiment; `folder` is where a relative path starts.

    Raises:
        UserError: there is none; the message lists them all.
    """
    if name.endswith((".yaml", ".yml")):
        path = folder / local_path(name)
        if not path.is_file():
            raise UserError(f"experiment={name}: no such file; known experiments: {_names()}")
        return path.resolve()
    path = experiments_folder() / f"{name}.yaml"
    if not name or "/" in name or not path.is_file():
        raise UserError(f"unknown experiment {name!r}: use one of {_names()}, or the path of a .yaml file")
    return path.resolve()


def _names() -> str:
    return ", ".join(list_experiments()) or "(none installed)"


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML file that holds keys.

    Raises:
        UserError: it cannot be read, or holds something else; one line that names the file.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not YAML, or not text
        where, _, reason = str(error).partition(": ") if str(error).startswith("line ") else ("", "", str(error))
        raise UserError(f"{path}{where and f', {where}'}: not a YAML file ({reason})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: an experiment file holds keys, e.g. `seed: 1`, not a {type(content).__name__}")
    return {str(key): value for key, value in content.items()}
