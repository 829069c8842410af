"""How every command ends: its exit status and the one line of an error."""

import os
import sys
import traceback
from collections.abc import Callable

from drift_pl.core.errors import UserError

USER_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141
OUT_OF_MEMORY = (
    "out of memory on the accelerator: lower objective.micro_batch (1 is the least), then policy.resolution or "
    "policy.max_sequence_length; policy.gradient_checkpointing=true helps as well"
)


def run_command(main: Callable[[list[str]], None], argv: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    A `UserError` is one line on stderr and status 2 (`--debug` adds the traceback), and so is an accelerator out of
    memory; Ctrl-C is status 130; any other error is a bug and keeps its traceback.

    Args:
        main: the command, which takes the arguments without the program's name.
        argv: those arguments; None takes the process's own.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        main(arguments)
        sys.stdout.flush()
    except UserError as error:
        return _refuse(error, str(error), arguments)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, by name: commands answer before torch is loaded
            raise
        return _refuse(error, OUT_OF_MEMORY, arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `--help | head`: nobody reads on; keep the interpreter from complaining when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return 0


def _refuse(error: Exception, message: str, arguments: list[str]) -> int:
    if "--debug" in arguments:
        traceback.print_exception(error)
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return USER_ERROR
