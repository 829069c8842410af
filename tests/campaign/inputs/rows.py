"""A bad input as data: the command line, the files made for it, and what the one line must say."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Content = str | bytes | None | Callable[[Path], Any]
"""Of a file: text, bytes, None (it is taken away), or a function that makes or changes it."""


@dataclass(frozen=True)
class Row:
    """A bad input.

    Attributes:
        line: the command and its arguments, split as a shell does. `fit` gets the arguments of the tiny world first,
            `resume` is `fit` without them. WORLD, RUN and OTHER stand for the folders of `stage.Stage`.
        says: parts of the message, each of which it must contain; usually the setting or file, and a value that works.
        files: name -> content, in the working folder. What begins with `run/`, `pipeline/` or another folder of the
            stage is a change of a copy of it.
        env: environment variables.
        begins: the run has begun when it is found, so its folder remains; it has no checkpoint and no temporary file.
        warned: lines of warning that come before.
    """

    line: str
    says: tuple[str, ...]
    files: Mapping[str, Content] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    begins: bool = False
    warned: int = 0


def row(line: str, *says: str, **facts: Any) -> Row:
    """A row without files; `facts` are further attributes."""
    return Row(line, says, **facts)


def with_files(files: Mapping[str, Content], line: str, *says: str, **facts: Any) -> Row:
    return Row(line, says, files, **facts)


def make(folder: Path, files: Mapping[str, Content], sources: Mapping[str, Path]) -> None:
    """Makes a row's files.

    Args:
        sources: name of a folder that is copied when a file in it is named -> where it is.
    """
    for name, content in files.items():
        first = name.partition("/")[0]
        if first in sources and not (folder / first).exists():
            shutil.copytree(sources[first], folder / first)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        elif content is None:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")


def folder(path: Path) -> None:
    """Content: an empty folder."""
    path.mkdir(parents=True, exist_ok=True)


def folder_instead(path: Path) -> None:
    """Content: a folder where the file was."""
    path.unlink()
    path.mkdir()


def link_to(target: str) -> Callable[[Path], None]:
    """Content: a symbolic link."""
    return lambda path: path.symlink_to(target)


def fifo(path: Path) -> None:
    """Content: a pipe that nobody writes to."""
    os.mkfifo(path)


def hole(size: int) -> Callable[[Path], None]:
    """Content: a file of zeros that takes no room."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return write


def cut(keep: float) -> Callable[[Path], None]:
    """Content: the file without its end, as a broken download leaves it."""
    return lambda path: path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


def json_with(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Content: the JSON file after a change in place."""

    def write(path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return write


def put(*place: Any, value: Any) -> Callable[[Any], None]:
    """A change: the value at a place in nested dictionaries and lists."""

    def change(node: Any) -> None:
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value

    return change


def drop(*place: Any) -> Callable[[Any], None]:
    """A change: the entry at a place is taken away."""

    def change(node: Any) -> None:
        for key in place[:-1]:
            node = node[key]
        del node[place[-1]]

    return change


def checkpoint_with(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Content: the checkpoint after a change of its inside."""

    def write(path: Path) -> None:
        import torch

        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return write


def tensors_with(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Content: the safetensors file after a change of its tensors."""

    def write(path: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return write
