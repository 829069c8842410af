"""Health of a container: status 0 if it works, 1 and one line if it does not. Needs nothing but Python.

python health.py                    a training: its run folders are written to
python health.py --rewards URL      a reward server: it answers a request without images
python health.py --page URL         a web server: it answers
"""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_S = 10
USAGE = "usage: health.py [--rewards URL | --page URL]"


def newest(folder: Path) -> float:
    """When a file below the folder was last written, in seconds since 1970; 0 if there is none."""
    times = [0.0]
    for path in folder.rglob("*"):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:  # a temporary file, renamed in the meantime
            continue
    return max(times)


def training(folder: Path, stale_s: float, started: float) -> str | None:
    """What is wrong with a training; None if nothing is.

    Args:
        folder: of all runs.
        stale_s: longest time without a write: more than an iteration and an evaluation's prompt take. Loading and
            downloading models may take as long.
        started: when the container's first process began, in seconds since 1970.
    """
    idle_s = time.time() - max(newest(folder), started)
    return f"nothing was written below {folder} for {idle_s:.0f} s" if idle_s > stale_s else None


def reward_server(url: str) -> str | None:
    """What is wrong with a server of docs/http_judge.md; None if nothing is."""
    body = json.dumps({"images": [], "prompts": []}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        scores = json.load(answer).get("scores")
    return None if scores == [] else f"{url} answers {scores!r} where no image was sent: expected []"


def page(url: str) -> str | None:
    """What is wrong with a web server; None if it answers with success."""
    with urllib.request.urlopen(url, timeout=TIMEOUT_S):
        return None


def main(argv: Sequence[str]) -> int:
    try:
        match argv:
            case []:
                runs, stale_s = (
                    os.environ.get("DRIFT_RUNS", "/home/drift/runs"),
                    os.environ.get("DRIFT_STALE_S", "3600"),
                )
                problem = training(Path(runs), float(stale_s), Path("/proc/1").stat().st_mtime)
            case ["--rewards", url]:
                problem = reward_server(url)
            case ["--page", url]:
                problem = page(url)
            case _:
                problem = USAGE
    except (OSError, ValueError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        print(problem)
    return int(problem is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
