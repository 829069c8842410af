"""Experiment files: where they are, what they are called, and the chain of a file and its bases."""

import difflib
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
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(experiments_folder().glob("*.yaml"))}
    comments = {name: [line for line in text.splitlines() if line.startswith("#")] for name, text in texts.items()}
    return {name: lines[0].lstrip("# ").strip() if lines else "" for name, lines in comments.items()}


def load_experiment(name: str) -> list[tuple[str, dict[str, Any]]]:
    """The files of an experiment, base first: (path, its difference from the files before it).

    Raises:
        UserError: no such experiment, no YAML, no mapping, or files that are each other's base.
    """
    chain: list[tuple[str, dict[str, Any]]] = []
    path: Path | None = _find_experiment(name, Path.cwd())
    seen: list[Path] = []
    while path is not None:
        if path in seen:
            names = " -> ".join(entry.name for entry in [*seen, path])
            raise UserError(f"experiment files are each other's base: {names}; remove one `base:`")
        seen.append(path)
        difference = read_mapping(path)
        base = difference.pop("base", None)
        if base is not None and not isinstance(base, str):
            raise UserError(f"{path.name}: base={base!r} is not the name of an experiment, e.g. base: shapes_div")
        chain.append((str(path), difference))
        path = _find_experiment(base, path.parent, f"{path.name}: base") if base else None
    return chain[::-1]


def _find_experiment(name: str, folder: Path, setting: str = "experiment") -> Path:
    """File of an experiment; relative paths start at `folder`.

    Args:
        setting: what names it, for messages.
    """
    is_path = name.endswith((".yaml", ".yml"))
    path = folder / local_path(name) if is_path else experiments_folder() / f"{name}.yaml"
    if path.is_file() and name and (is_path or "/" not in name):
        return path.resolve()
    known = list(list_experiments())
    near = difflib.get_close_matches(name.rpartition("/")[2].removesuffix(".yaml"), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(known) or "(none installed)"
    what = "file" if is_path else "experiment"
    raise UserError(f"{setting}={name}: no such {what}; {hint}use one of {listed}, or the path of a .yaml file")


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML file that holds keys.

    Raises:
        UserError: it cannot be read, or holds something else; one line that names the file.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not YAML, or not text
        raise UserError(f"{path}: not a YAML file ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if content is None:
        raise UserError(f"{path} is empty: such a file holds keys, e.g. `seed: 1`")
    if not isinstance(content, dict):
        raise UserError(f"{path}: an experiment file holds keys, e.g. `seed: 1`, not a {type(content).__name__}")
    return {str(key): value for key, value in content.items()}
