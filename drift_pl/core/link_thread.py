"""The thread that keeps a process's connections to the others, hears of signals, and learns why all of them end."""

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

LEAVE_S = 5.0


@dataclass(frozen=True)
class Ending:
    """Why all processes of a run end.

    Attributes:
        line: what to tell the user; "" if the user asked for the end.
        status: exit status of the processes.
        rank: the process that it began with.
        lost: that process is gone, or cannot be reached.
    """

    line: str
    status: int
    rank: int = 0
    lost: bool = False


class Link(threading.Thread):
    """The thread that keeps the connections of a process.

    Args:
        rank: of this process.
        on_end: called in this thread, once, when it is known that and why all processes end.
        on_signal: called in this thread with the number of a signal that was sent to the process, see `waker`.
        on_tick: called in this thread about once a second.

    Attributes:
        ending: why all end; None while they do not.
        known: set with `ending`.
        waker: a socket for `signal.set_wakeup_fd`: the thread hears of signals whatever the main thread waits for.
    """

    def __init__(
        self, rank: int, on_end: Callable[[Ending], None], on_signal: Callable[[int], None], on_tick: Callable[[], None]
    ) -> None:
        super().__init__(name="link", daemon=True)
        self.rank, self.known = rank, threading.Event()
        self.ending: Ending | None = None
        self._on_end, self._on_signal, self._on_tick = on_end, on_signal, on_tick
        self._selector, self._closing = selectors.DefaultSelector(), False
        self._woken, self.waker = socket.socketpair()
        for end in (self._woken, self.waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._wake)
        self._posted: deque[dict[str, Any]] = deque()

    def end(self, ending: Ending) -> None:
        """Ends all processes; the first ending that the first process hears of is everyone's."""
        self._post(end=asdict(ending))

    def request_stop(self) -> None:
        """Asks all processes to end at an iteration's boundary, see `goes_on`."""
        self._post(stop=True)

    def goes_on(self, iteration: int) -> bool:
        """Whether to begin an iteration: the same answer on all processes.

        They exchange something in every iteration, so the first has begun an iteration before another can ask about the
        next: a stop is announced one iteration ahead.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Says that this process is done, and needs no other."""
        self._closing = True
        self._post()
        self.join(LEAVE_S)

    def run(self) -> None:
        ticked = 0.0
        while not self._closing:
            for key, _ in self._selector.select(1.0):
                key.data()
            while self._posted:
                self._handle(self._posted.popleft())
            if time.monotonic() - ticked > 0.5:
                ticked = time.monotonic()
                self._on_tick()
        self._leave()

    def _post(self, **message: Any) -> None:
        self._posted.append(message)
        with suppress(BlockingIOError):  # then it is awake already
            self.waker.send(b"\0")

    def _wake(self) -> None:
        for number in self._woken.recv(4096):
            if number:
                self._on_signal(number)

    def _set(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            self._on_end(ending)
            self.known.set()

    def _handle(self, message: dict[str, Any]) -> None:
        """A message of this process itself."""
        raise NotImplementedError

    def _leave(self) -> None:
        raise NotImplementedError
