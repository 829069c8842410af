"""Errors of code that is somebody else's: rewards, methods, updates, callbacks of the user's own. No torch."""

import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from drift_pl.core.locate import first_line

PACKAGE = str(Path(__file__).parents[1])
COMMAND = str(Path(PACKAGE, "config", "command.py"))
"""What calls every command: scripts that call it, too, are no plug-ins."""
LIBRARIES = tuple(
    {path for name in ("stdlib", "platstdlib", "purelib", "platlib") if (path := sysconfig.get_path(name))}
)


def described(error: BaseException) -> str:
    """An error of somebody's code in one line, with its place."""
    kind, reason = type(error).__name__, error.msg if isinstance(error, SyntaxError) else first_line(error)
    frames = traceback.extract_tb(error.__traceback__)
    inner = next((frame for frame in reversed(frames) if not frame.filename.startswith("<frozen")), frames[-1])
    place = next((frame for frame in reversed(frames) if _is_foreign(frame.filename)), inner)
    file, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else (place.filename, place.lineno)
    return f"{kind if reason == kind else f'{kind}: {reason}'} ({file}, line {line}); --debug shows all"


def is_of_foreign_code(error: BaseException) -> bool:
    """Whether this package had called somebody's code, from the working folder say, when the error was raised.

    An error that is still on its way up, inside of Lightning say, has frames above those of its traceback.
    """
    above = error.__traceback__.tb_frame.f_back if error.__traceback__ else None
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(above)][::-1] if above else []
    files += [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return any(_is_foreign(file) and _holds_own(files[:place]) for place, file in enumerate(files))


def _holds_own(files: Sequence[str]) -> bool:
    return any(file.startswith(PACKAGE) and file != COMMAND for file in files)


def _is_foreign(file: str) -> bool:
    return not file.startswith((PACKAGE, "<", *LIBRARIES))
