"""Hook that runs in the process of a run: what the process holds after each iteration."""

import json
import os
import threading
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")


def install(file: str, root: str) -> None:
    """Sets what writes a line per iteration: resident bytes, open files, threads, and the bytes of the run's logs."""
    from drift_pl.training.module import DriftModule

    original = DriftModule.training_step
    out = open(file, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)

    def watched(self: DriftModule, *args: Any, **options: Any) -> Any:
        print(json.dumps(held(Path(root))), file=out, flush=True)
        return original(self, *args, **options)

    DriftModule.training_step = watched  # type: ignore[method-assign]


def held(root: Path) -> dict[str, int]:
    return {
        "resident": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "tasks": len(os.listdir("/proc/self/task")),
        "csv": _size(root / "csv"),
        "tensorboard": _size(root / "tensorboard"),
        "folder": _size(root),
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
