"""A connection between two processes: lines of JSON, and the news that the other side is gone."""

import json
import socket
from contextlib import suppress
from typing import Any

SEND_S = 5.0
IDLE_S, INTERVAL_S, PROBES = 5, 5, 3
"""A host that does not answer is given up after IDLE_S + INTERVAL_S * PROBES = 20 seconds."""
LONGEST = 65_536
"""Bytes of a message."""


class Peer:
    """A connection, message by message."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.rank, self.host, self._rest = connection, -1, "", b""
        connection.settimeout(SEND_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        timeout_ms = (IDLE_S + INTERVAL_S * PROBES) * 1000
        for option, value in (
            ("TCP_KEEPIDLE", IDLE_S),
            ("TCP_KEEPINTVL", INTERVAL_S),
            ("TCP_KEEPCNT", PROBES),
            ("TCP_USER_TIMEOUT", timeout_ms),  # the same for what was sent
            ("TCP_NODELAY", 1),
        ):
            if hasattr(socket, option):  # not on every system
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def send(self, **message: Any) -> None:
        with suppress(OSError):  # who is gone is noticed when reading
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """What has arrived; None if the other side is gone, or is none of ours."""
        try:
            data = self.socket.recv(LONGEST)
        except OSError:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            return None
        whole = bool(data) and len(self._rest) < LONGEST and all(isinstance(each, dict) for each in messages)
        return messages if whole else None
