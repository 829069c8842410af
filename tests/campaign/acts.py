"""Hook that runs in the process of a run: something happens to its folder or its disk in the middle of an iteration."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

FILLER = ".filler"


def install(iteration: int | None, act: str, path: str, **options: Any) -> None:
    """Sets what does `act` on a path once.

    Args:
        iteration: when this one (from 1) has been computed, and is not logged or saved yet; 0: before the run; None:
            after the last one, before the final evaluation.
    """
    from drift_pl.training.callbacks.evaluation import HeldOutEvaluation
    from drift_pl.training.module import DriftModule

    def do() -> None:
        ACTS[act](Path(path), **options)

    if iteration == 0:
        do()
        return
    if iteration is None:
        finish = HeldOutEvaluation.on_train_end

        def end(*args: Any) -> None:
            do()
            finish(*args)

        HeldOutEvaluation.on_train_end = end  # type: ignore[method-assign]
        return
    original = DriftModule.training_step

    def step(self: DriftModule, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if self.trainer.datamodule.iteration == iteration:
            do()
        return result

    DriftModule.training_step = step  # type: ignore[method-assign]


def fill(folder: Path, left: int) -> None:
    """Leaves so many bytes of a disk free."""
    with suppress(OSError), (folder / FILLER).open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    os.truncate(folder / FILLER, max((folder / FILLER).stat().st_size - left, 0))


def use_inodes(folder: Path, left: int) -> None:
    """Leaves so many inodes of a disk free."""
    (folder / FILLER).mkdir()
    names = 0
    with suppress(OSError):
        while True:
            (folder / FILLER / str(names)).touch()
            names += 1
    for number in range(left):
        (folder / FILLER / str(number)).unlink()


def make_room(folder: Path) -> None:
    filler = folder / FILLER
    shutil.rmtree(filler) if filler.is_dir() else filler.unlink()


def remount(folder: Path, mode: str) -> None:
    """`ro` or `rw`."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True, capture_output=True)


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def rename(folder: Path, to: str) -> None:
    folder.rename(to)


def without_rights(folder: Path, user: int) -> None:
    """The process becomes another user's, who may read the folder and not write to it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    os.setuid(user)


ACTS = {
    **{"fill": fill, "use_inodes": use_inodes, "remount": remount, "remove": remove, "rename": rename},
    **{"without_rights": without_rights},
}
