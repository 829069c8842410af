"""How far a run is, in a small file of its folder that `drift-pl runs` reads without torch."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from drift_pl.core.files import finite
from drift_pl.core.json_files import read_keys

STATUS = "status.json"


def write_status(run_dir: Path, status: dict[str, Any]) -> None:
    """Replaces the file. Nothing depends on it: it is not synced, and what cannot be written is left out."""
    temporary = run_dir / f".{STATUS}.{os.getpid()}.tmp"
    with suppress(OSError):
        temporary.write_text(json.dumps(finite(status)) + "\n", encoding="utf-8")
        os.replace(temporary, run_dir / STATUS)


def read_status(run_dir: Path) -> dict[str, Any]:
    """Empty if there is none that can be read."""
    return read_keys(run_dir / STATUS)


def went_on(run_dir: Path, iterations: int) -> bool:
    """Whether a run has been trained beyond the iteration at which its summary was written, and was interrupted."""
    done = read_status(run_dir).get("iteration")
    return isinstance(done, int) and done > iterations
