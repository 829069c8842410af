"""How every command ends: its exit status and the one line of an error."""

import difflib
import io
import locale
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from drift_pl import __version__
from drift_pl.core.errors import UserError
from drift_pl.core.exit_status import BROKEN_PIPE, BUG, INTERRUPTED, TERMINATED, USER_ERROR
from drift_pl.core.files import refused
from drift_pl.core.foreign import described, is_of_foreign_code
from drift_pl.core.locate import first_line

OUT_OF_MEMORY = (
    "out of memory on the accelerator: lower objective.micro_batch (1 is the least), then policy.resolution or "
    "policy.max_sequence_length; policy.gradient_checkpointing=true helps as well"
)
OWN = Path(__file__).parents[1].parts
LONGEST = 300
"""Characters of one word of a message; a longer value is cut in its middle."""


def run_command(main: Callable[[list[str]], None], argv: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    A `UserError` is one line on stderr and status 2 (`--debug` adds the traceback), and so are what the file system
    refuses, an accelerator out of memory, what Lightning refuses of its settings and errors of code that settings
    name; Ctrl-C is status 130; any other error is a bug and keeps its traceback.

    Args:
        main: the command, which takes the arguments without the program's name.
        argv: those arguments; None takes the process's own.
    """
    if argv is None:
        _use_utf8()
        _find_modules_here()
    arguments = sys.argv[1:] if argv is None else argv
    _write_utf8()
    if "--version" in arguments:
        print(f"drift_pl {__version__}")
        return 0
    try:
        main(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _leave(INTERRUPTED, argv is None)
    except SystemExit as stop:
        if not isinstance(stop.code, int):
            raise
        return _leave(stop.code, argv is None)
    except BrokenPipeError:
        # `--help | head`: nobody reads on; keep the interpreter from complaining when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        line, status = describe(error)
        if status != USER_ERROR:
            raise
        if "--debug" in arguments:
            traceback.print_exception(error)
        print(f"error: {line}", file=sys.stderr)
        return _leave(status, argv is None)
    return 0


def describe(error: BaseException) -> tuple[str, int]:
    """The line that a user gets of an error, and the exit status; of a bug its kind and 1, beside the traceback."""
    if isinstance(error, KeyboardInterrupt):
        return "", INTERRUPTED
    message = str(error) if isinstance(error, UserError) else _refusal(error)
    status = BUG if message is None else USER_ERROR
    message = f"{type(error).__name__}: {error}" if message is None else message
    words = re.sub(rf"\S{{{LONGEST},}}", lambda word: f"{word[0][:100]}...{word[0][-40:]}", message).split()
    return " ".join(words), status


def _refusal(error: BaseException) -> str | None:
    """What the user can do about an error of a library; None for a bug.

    Errors of torch and Lightning are told by their names: commands answer before these are loaded.
    """
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return OUT_OF_MEMORY
    if (line := refused(error)) is not None:
        return line
    callback, itself = _lightning_callback(error)
    if unlogged := re.match(r"Early stopping conditioned on metric `(.+?)` which is not available", str(error)):
        return _unlogged(unlogged[1], re.findall("`([^`]+)`", str(error)))
    if kind == "MisconfigurationException" or itself:
        return f"Lightning refuses the settings of `trainer`, or of a callback: {first_line(error)}"
    if callback:
        return (
            f"trainer.callbacks: Lightning's {callback} does not work here ({kind}: {first_line(error)}): leave it out"
        )
    return f"code that the settings name failed: {described(error)}" if is_of_foreign_code(error) else None


def _unlogged(name: str, quoted: Sequence[str]) -> str:
    """The line of a run that is to stop by a metric that nobody logs.

    Args:
        quoted: what Lightning's message quotes, the metrics among it.
    """
    logged = sorted({each for each in quoted if "/" in each})
    near = difflib.get_close_matches(name, logged, n=1, cutoff=0.4) or logged[:1] or ["eval/reward"]
    return (
        f"trainer.callbacks: EarlyStopping's monitor={name} is not logged in training: use e.g. monitor={near[0]} "
        f"(docs/metrics.md lists all)"
    )


def _lightning_callback(error: BaseException) -> tuple[str, bool]:
    """The module of a callback of Lightning that failed, and whether it was not what it called.

    It is empty if there is none, or if it called this package, whose error is no fault of the callback.
    """
    files = [Path(frame.filename).parts for frame in traceback.extract_tb(error.__traceback__)]
    places = [place for place, parts in enumerate(files) if parts[-4:-1] == ("lightning", "pytorch", "callbacks")]
    if not places or any(parts[: len(OWN)] == OWN for parts in files[places[-1] :]):
        return "", False
    return files[places[-1]][-1].removesuffix(".py"), places[-1] == len(files) - 1


@contextmanager
def leaving_at_second_sigterm() -> Iterator[None]:
    """Lightning ends a run after the iteration in which SIGTERM arrives, which a hanging reward makes very long."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived = 0

    def count(*_: object) -> None:
        nonlocal arrived
        arrived += 1
        if arrived > 1:
            print("terminated at once", file=sys.stderr, flush=True)
            os._exit(TERMINATED)

    earlier = signal.signal(signal.SIGTERM, count)  # Lightning calls it beside its own handler
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _leave(status: int, is_process: bool) -> int:
    """The status of a command that was stopped; a process ends here if something would keep it.

    That is a thread, such as a reward's, or a group of processes: gloo waits eight seconds for one that is broken.
    """
    group = sys.modules.get("torch.distributed")
    threads = [thread for thread in threading.enumerate() if not thread.daemon]
    grouped = group is not None and group.is_available() and group.is_initialized()
    if is_process and (len(threads) > 1 or grouped):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _find_modules_here() -> None:
    """Modules of the working folder are found by a console script as `python -m` finds them."""
    with suppress(OSError):  # the folder is gone
        here = os.getcwd()
        if here not in sys.path and "" not in sys.path and not sys.flags.safe_path:
            sys.path.insert(0, here)


def _use_utf8() -> None:
    """Starts the process again where the locale has another encoding: arguments, paths and files are all UTF-8."""
    if not sys.flags.utf8_mode and locale.getpreferredencoding(False).lower().replace("-", "") != "utf8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _write_utf8() -> None:
    """What is printed is UTF-8 whatever the locale; what UTF-8 cannot hold is shown by its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
