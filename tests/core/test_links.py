"""The connections between the processes of a run: the first ending is everyone's, and who dies is noticed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from drift_pl.core.link_thread import Ending, Link
from drift_pl.core.links import Hub, Spoke
from drift_pl.core.peer import IDLE_S, INTERVAL_S, PROBES

SPOKE = (
    "import sys, time; from drift_pl.core.links import Spoke\n"
    "link = Spoke(int(sys.argv[1]), ('127.0.0.1', int(sys.argv[2])), sys.argv[3], *[lambda *_: None] * 3)\n"
    "link.start(); print('connected', flush=True); link.known.wait(); print(link.ending.line, flush=True)"
)
HUB = (
    "import time; from drift_pl.core.links import Hub; hub = Hub('127.0.0.1', *[lambda *_: None] * 3)\n"
    "hub.start(); print(hub.port, hub.token, flush=True); time.sleep(60)"
)
UNHEARD = (lambda ending: None, lambda number: None, lambda: None)


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub("127.0.0.1", *UNHEARD)
    hub.start()
    yield hub
    hub.close()


@pytest.fixture
def join(hub: Hub) -> Iterator[Callable[[int], Spoke]]:
    """Connects process number `rank`."""
    joined: list[Spoke] = []

    def connect(rank: int) -> Spoke:
        joined.append(Spoke(rank, ("127.0.0.1", hub.port), hub.token, *UNHEARD))
        joined[-1].start()
        assert joined[-1].goes_on(0)  # it is known there
        return joined[-1]

    yield connect
    for spoke in joined:
        spoke.close()


def ending_of(link: Link) -> Ending:
    assert link.known.wait(20)
    assert link.ending is not None
    return link.ending


@pytest.mark.parametrize("rank", [0, 2])
def test_everyone_hears_of_the_first_ending(rank: int, hub: Hub, join: Callable[[int], Spoke]) -> None:
    """Catches in core/links.py: the hub tells all but the one that it began with, which waits to be heard."""
    links: list[Link] = [hub, join(1), join(2)]
    links[rank].end(Ending("a reward failed", 2, rank))
    assert [ending_of(link) for link in links] == [Ending("a reward failed", 2, rank)] * 3
    links[1].end(Ending("later", 1, 1))
    time.sleep(0.2)
    assert [ending_of(link).line for link in links] == ["a reward failed"] * 3


def test_a_killed_process_is_noticed_at_once_by_all(hub: Hub, join: Callable[[int], Spoke]) -> None:
    """Catches in core/links.py: an end of the connection is ignored."""
    other = join(1)
    command = [sys.executable, "-c", SPOKE, "2", str(hub.port), hub.token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        process.send_signal(signal.SIGSTOP)  # busy, or stopped: not dead
        assert not hub.known.wait(1.5)
        process.kill()
        begin = time.monotonic()
        for link in (hub, other):
            ending = ending_of(link)
            assert ending.lost
            assert ending.rank == 2
            assert f"process 2 on {socket.gethostname()} is gone" in ending.line
        assert time.monotonic() - begin < 5


def test_the_others_notice_that_the_first_process_is_gone(join: Callable[[int], Spoke]) -> None:
    with subprocess.Popen([sys.executable, "-c", HUB], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port, token = process.stdout.readline().split()
        spoke = Spoke(1, ("127.0.0.1", int(port)), token, *UNHEARD)
        spoke.start()
        assert spoke.goes_on(3)
        process.kill()
        assert ending_of(spoke).lost
        assert "the first process, on 127.0.0.1, is gone" in ending_of(spoke).line
        spoke.close()


def test_who_is_done_is_not_missed(hub: Hub, join: Callable[[int], Spoke]) -> None:
    """Catches in core/links.py: a process that finishes before the first one ends the run."""
    spoke, other = join(1), join(2)
    spoke.close()
    assert other.goes_on(1)
    assert not hub.known.wait(0.5)
    hub.close()
    assert not other.known.wait(0.5)


def test_a_stop_is_the_same_iteration_everywhere(hub: Hub, join: Callable[[int], Spoke]) -> None:
    """Another process may begin an iteration before the first one does; it asks again after it.

    Catches in core/links.py: the first process stops at once, while others have begun the iteration.
    """
    spoke = join(1)
    assert hub.goes_on(4)
    assert spoke.goes_on(5)
    spoke.request_stop()
    while not hub.asked:
        time.sleep(0.01)
    assert hub.goes_on(5)
    assert not spoke.goes_on(6)
    assert not hub.goes_on(6)


def test_strangers_are_not_listened_to(hub: Hub) -> None:
    """Catches in core/links.py: the token is not compared."""
    for text in (b'{"token": "guess", "rank": 1, "host": "x"}\n', b'{"end": {"line": "", "status": 1}}\n', b"GET /\n"):
        with socket.create_connection(("127.0.0.1", hub.port)) as stranger:
            stranger.sendall(text)
            assert stranger.recv(100) == b""
    assert not hub.known.is_set()


def test_signals_are_heard_while_the_main_thread_is_busy() -> None:
    heard: list[int] = []
    hub = Hub("127.0.0.1", lambda ending: None, heard.append, lambda: None)
    hub.start()
    earlier = signal.signal(signal.SIGUSR2, lambda *_: None)
    signal.set_wakeup_fd(hub.waker.fileno())
    try:
        os.kill(os.getpid(), signal.SIGUSR2)
        for _ in range(2000):
            time.sleep(0.01)
            if heard:
                break
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR2, earlier)
        hub.close()
    assert heard == [signal.SIGUSR2]


def test_a_host_that_does_not_answer_is_given_up_in_time() -> None:
    """The kernel's own probes; within the 30 seconds that docs/runs.md promises."""
    assert IDLE_S + INTERVAL_S * PROBES <= 25
