"""One connection from each process of a run to the first, beside those that they compute on.

It carries a few lines of JSON, and it shows when a process is gone: the kernel closes the connections of one that died,
and finds a host that no longer answers (TCP keepalive). A process that is only busy, or stopped, never counts as gone.
"""

import hmac
import secrets
import selectors
import socket
import threading
import time
from dataclasses import asdict
from typing import Any

from drift_pl.core.exit_status import USER_ERROR
from drift_pl.core.link_thread import Ending, Link
from drift_pl.core.peer import Peer

CONNECT_S, ANSWER_S = 20.0, 10.0


class Hub(Link):
    """The first process's side.

    Args:
        host: address to listen on; "" for all.

    Attributes:
        port, token: what the others need to connect.
        asked: when somebody asked for a stop, by `time.monotonic`; 0: nobody has.
    """

    def __init__(self, host: str, *callbacks: Any) -> None:
        super().__init__(0, *callbacks)
        self._server = socket.create_server((host, 0), backlog=1024)
        self.port, self.token = self._server.getsockname()[1], secrets.token_hex(16)
        self.asked, self._stop_at = 0.0, -1
        self._peers: set[Peer] = set()
        self._selector.register(self._server, selectors.EVENT_READ, self._accept)

    def goes_on(self, iteration: int) -> bool:
        if self.asked and self._stop_at < 0:
            self._stop_at = iteration + 1
        return self._stop_at < 0 or iteration < self._stop_at

    def _accept(self) -> None:
        peer = Peer(self._server.accept()[0])
        self._peers.add(peer)
        self._selector.register(peer.socket, selectors.EVENT_READ, lambda: self._read(peer))

    def _read(self, peer: Peer) -> None:
        messages = peer.receive()
        if messages is None:
            self._drop(peer)
        for message in messages or ():
            if hmac.compare_digest(str(message.get("token", "")), self.token):
                peer.rank, peer.host = int(message["rank"]), str(message["host"])
            if peer.rank < 0:  # not one of ours
                self._drop(peer)
            elif "at" in message:
                peer.send(goes_on=self._stop_at < 0 or message["at"] < self._stop_at)
            elif "bye" in message:
                self._drop(peer, dead=False)
            else:
                self._handle(message)

    def _drop(self, peer: Peer, dead: bool = True) -> None:
        if peer not in self._peers:
            return
        self._peers.remove(peer)
        self._selector.unregister(peer.socket)
        peer.socket.close()
        if dead and peer.rank > 0:
            what = f"process {peer.rank} on {peer.host} is gone: it was killed, ran out of memory, or its host is down"
            self._set(Ending(what, USER_ERROR, peer.rank, lost=True))

    def _handle(self, message: dict[str, Any]) -> None:
        if "end" in message:
            self._set(Ending(**message["end"]))
        elif "stop" in message and not self.asked:
            self.asked = time.monotonic()

    def _set(self, ending: Ending) -> None:
        first = self.ending is None
        if first:
            for peer in self._peers:
                peer.send(end=asdict(ending))
        super()._set(ending)

    def _leave(self) -> None:
        for peer in self._peers:
            peer.send(bye=True)
            peer.socket.close()
        self._server.close()


class Spoke(Link):
    """The side of every other process.

    Args:
        rank: of this process.
        address: host and port of the first process.
        token: its token.

    Raises:
        OSError: it cannot be reached.
    """

    def __init__(self, rank: int, address: tuple[str, int], token: str, *callbacks: Any) -> None:
        super().__init__(rank, *callbacks)
        self._first_host = address[0]
        self._first = Peer(socket.create_connection(address, CONNECT_S))
        self._first.send(token=token, rank=rank, host=socket.gethostname())
        self._answer, self._answered = True, threading.Event()
        self._selector.register(self._first.socket, selectors.EVENT_READ, self._read)

    def goes_on(self, iteration: int) -> bool:
        self._answer = True
        self._answered.clear()
        self._post(at=iteration)
        self._answered.wait(ANSWER_S)
        return self._answer

    def _read(self) -> None:
        messages = self._first.receive()
        if messages is None:
            self._selector.unregister(self._first.socket)
            self._answered.set()
            what = f"the first process, on {self._first_host}, is gone: it was killed, or its host is down"
            self._set(Ending(what, USER_ERROR, 0, lost=True))
        for message in messages or ():
            if "goes_on" in message:
                self._answer = bool(message["goes_on"])
                self._answered.set()
            elif "end" in message:
                self._set(Ending(**message["end"]))
            elif "bye" in message:  # what this process still does, it does alone
                self._selector.unregister(self._first.socket)
                self._answered.set()
                return

    def _handle(self, message: dict[str, Any]) -> None:
        if message:
            self._first.send(**message)

    def _leave(self) -> None:
        self._first.send(bye=True)
        self._first.socket.close()
