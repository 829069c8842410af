"""A process that has imported everything, and forks itself for each run: a start takes a tenth of a second.

`python -m campaign.forking` reads one request per line (see `server.py`) and answers with a line when that run has
ended. It has no thread when it forks, and the fork runs `fit` as `python -m drift_pl.fit` does.
"""

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

IMPORTED = ("drift_pl.builders.run", "drift_pl.training.loggers", "tensorboard.summary.writer", "PIL.PngImagePlugin")


def serve() -> None:
    """Answers requests until stdin ends. In a fork, it returns as soon as everything is set for the run."""
    for name in IMPORTED:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        begin = time.monotonic()
        pid = os.fork()
        if pid == 0:
            return _prepare(request)
        status, timed_out = _wait(pid, request["kill_after_s"], request["limit_s"])
        answer = {"status": status, "seconds": time.monotonic() - begin, "timed_out": timed_out}
        print(json.dumps(answer), flush=True)
    sys.exit()


def _wait(pid: int, kill_after_s: float | None, limit_s: float) -> tuple[int, bool]:
    """The status as `subprocess` gives it, and whether the time limit has ended the process."""
    begin, killed = time.monotonic(), False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), killed
        age = time.monotonic() - begin
        if kill_after_s is not None and age >= kill_after_s:
            os.kill(pid, signal.SIGKILL)
            kill_after_s = None
        if age > limit_s and not killed:
            os.kill(pid, signal.SIGKILL)
            killed = True
        time.sleep(0.001)


def _prepare(request: dict[str, Any]) -> None:
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        opened = os.open(Path(request["output"]) / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(opened, number)
    sys.path.insert(0, request["cwd"])  # as `python -m` does
    sys.argv = ["fit", *request["argv"]]
    for name, arguments in request["hooks"].items():
        module, _, function = name.partition(":")
        getattr(importlib.import_module(module), function)(**arguments)


if __name__ == "__main__":
    serve()
    from drift_pl.fit import main

    sys.exit(main())
