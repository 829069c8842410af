"""JSON files that others may have made or cut: one kind of error for whatever is wrong with them. No torch."""

import json
import lzma
from pathlib import Path
from typing import Any

LARGEST = 2**28
"""Bytes; a record of a thousand points on a thousand prompts has a tenth of them."""


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
