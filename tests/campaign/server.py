"""Runs of `fit` in forks of one process that has imported everything, see `forking.py`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
LIMIT_S = 300.0


@dataclass(frozen=True)
class Ended:
    """How a run has ended.

    Attributes:
        status: as of `subprocess`: -9 for SIGKILL.
    """

    status: int
    seconds: float
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """Lines of stderr that are no warnings."""
        return [line for line in self.stderr.splitlines() if line and not line.startswith("warning: ")]


class Server:
    """Starts runs of `fit`.

    Args:
        folder: for what they print, and the register of the user's own runs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._second = folder, 0
        path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(folder / "state"), "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "campaign.forking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**environment, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )
        assert self._read() == "ready"

    def fit(
        self,
        *argv: str,
        hooks: Mapping[str, Mapping[str, Any]] | None = None,
        kill_after_s: float | None = None,
        limit_s: float = LIMIT_S,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Runs `python -m drift_pl.fit ARGV` to its end.

        Args:
            hooks: `module:function` -> its arguments; called in the process of the run before the run.
            kill_after_s: seconds from the start to SIGKILL.
            limit_s: seconds after which a run counts as one that hangs.
        """
        # TensorBoard reads files of events in the order of their names, which hold the second they began in.
        while int(time.time()) == self._second:
            time.sleep(0.01)
        self._second = int(time.time())
        request = {
            **{"argv": argv, "hooks": hooks or {}, "kill_after_s": kill_after_s, "limit_s": limit_s},
            **{"cwd": str(cwd or self._folder), "environment": environment or {}, "output": str(self._folder)},
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._read())
        texts = [(self._folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        assert not answer["timed_out"], f"still there after {limit_s:.0f} s: {' '.join(argv)}\n{texts[1]}"
        return Ended(answer["status"], answer["seconds"], *texts)

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server is gone: {self._process.poll()}"
        return line.strip()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=LIMIT_S)


def lines(table: Sequence[Sequence[object]]) -> str:
    """A table as text, its first column to the left."""
    widths = [max(len(str(row[place])) for row in table) for place in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            str(cell).rjust(width) if place else str(cell).ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )
