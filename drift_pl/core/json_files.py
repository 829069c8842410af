"""JSON files that others may have made or cut: one kind of error for whatever is wrong with them. No torch."""

import json
import lzma
from pathlib import Path
from typing import Any

INDEX = "model_index.json"
LARGEST = 2**28
"""Bytes; a record of a thousand points on a thousand prompts has a tenth of them."""


def read_model_index(folder: Path) -> dict[str, Any]:
    """What `model_index.json` says of a diffusers pipeline's folder.

    Raises:
        ValueError: it is missing or damaged; one line.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = f"{INDEX} is {'missing' if missing else 'damaged'}: this is not a diffusers pipeline folder"
        raise ValueError(reason) from error
    if not isinstance(index, dict):
        raise ValueError(f"{INDEX} is damaged: it holds no keys")
    return index


def read_keys(path: Path) -> dict[str, Any]:
    """The keys and values of a JSON file that nothing depends on; none if it is missing, damaged, or holds no keys."""
    try:
        content = read_json(path)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def read_json(path: Path) -> Any:
    """The content of a UTF-8 JSON file, or of a compressed one, *.xz.

    Raises:
        ValueError: it cannot be read, is no JSON, or is too large or too deeply nested; one line.
    """
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(f"it has more than {LARGEST // 2**20} MiB")
        return json.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except (EOFError, lzma.LZMAError) as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
