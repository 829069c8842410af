"""Several processes of one run, with the variables that torchrun gives them, and a limit on how long they may take.

They are forked from a server that has imported everything: a second per process in place of ten.
"""

import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["drift_pl.builders.run", "drift_pl.fit", "drift_pl.policies.sd3"])


def run_processes(
    count: int, target: Callable[..., Any], *args: Any, limit_s: float = 300, codes: Collection[int] = (0,)
) -> None:
    """Calls a function of a test module in `count` processes; fails with the first error, or at the time limit.

    Args:
        target: importable; a process group is made by whoever needs one, e.g. Lightning.
        limit_s: after it the processes are killed: one of them waits for the others.
        codes: exit statuses that they may end with.
    """
    receiver, sender = SERVER.Pipe(duplex=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [SERVER.Process(target=_call, args=(sender, r, count, port, target, args)) for r in range(count)]
    for process in processes:
        process.start()
    sender.close()
    try:
        failures = _wait(processes, receiver, time.monotonic() + limit_s, codes)
    finally:
        for process in processes:
            process.kill()
            process.join()
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)


def _wait(processes: Sequence[BaseProcess], receiver: Any, deadline: float, codes: Collection[int]) -> list[str]:
    while any(process.is_alive() for process in processes):
        if receiver.poll(0.02):
            try:
                return [receiver.recv()]
            except EOFError:
                pass
        if time.monotonic() > deadline:
            return ["the processes wait for each other: the time limit is over"]
    if receiver.poll():
        try:
            return [receiver.recv()]
        except EOFError:
            pass
    return [f"a process ended with {process.exitcode}" for process in processes if process.exitcode not in codes]


def _call(sender: Any, rank: int, count: int, port: int, target: Callable[..., Any], args: Sequence[Any]) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    for stream in (1, 2):  # what is said there is not what is tested
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    try:
        target(*args)
    except BaseException:
        sender.send(f"process {rank}:\n{traceback.format_exc()}")
        raise SystemExit(1) from None


def fit_together(argv: Sequence[str], run_dir: Path) -> None:
    """A whole run, in each of its processes."""
    from drift_pl.config.loading import parse
    from drift_pl.fit import fit

    fit(parse([*argv, f"run_dir={run_dir}"]).config)
