"""Names of a run's checkpoints: numbered ones and last.ckpt, for all that write, find or list them. No torch."""

from pathlib import Path

FOLDER, LAST = "checkpoints", "last.ckpt"
"""The folder of checkpoints in a run's, and the newest of them."""
PREFIX, DIGITS = "iteration-", 6


def stem_of(iteration: int) -> str:
    """The name of what belongs to an iteration, without its suffix: `iteration-000080`."""
    return f"{PREFIX}{iteration:0{DIGITS}d}"


def number_of(path: Path) -> int:
    """The iteration in a file's name; -1 if it is another's."""
    digits = path.stem.removeprefix(PREFIX)
    return int(digits) if path.stem.startswith(PREFIX) and digits.isdecimal() else -1


def numbered(folder: Path) -> list[Path]:
    """The numbered checkpoints in a folder, by iteration; a file with another name is none."""
    return sorted((path for path in folder.glob(f"{PREFIX}*.ckpt") if number_of(path) >= 0), key=number_of)


def newest(run_dir: Path) -> Path | None:
    """last.ckpt of a run, or else its checkpoint of the highest number; None if it has neither."""
    last = run_dir / FOLDER / LAST
    return last if last.is_file() else next(reversed(numbered(run_dir / FOLDER)), None)
