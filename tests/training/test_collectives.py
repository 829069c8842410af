"""What is done to a process's connections when the others are gone, and which errors say no more than that."""

import os
import subprocess
import sys

import pytest
import torch

from drift_pl.training.collectives import lost_contact, timed_out

CUT = """
import os, socket
from drift_pl.training.collectives import cut_connections
server = socket.create_server(("127.0.0.1", 0))
one = socket.create_connection(server.getsockname())
other, _ = server.accept()
local, peer = socket.socketpair()
cut_connections()
assert one.recv(1) == other.recv(1) == b""
local.send(b"x")
assert peer.recv(1) == b"x"
third = socket.create_connection(server.getsockname())
server.accept()[0].send(b"y")
assert third.recv(1) == b"y"
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux")
def test_connections_are_cut_and_listeners_and_local_ones_are_not() -> None:
    """Catches in training/collectives.py: gloo's listener is cut too, which aborts the process."""
    subprocess.run([sys.executable, "-c", CUT], check=True, timeout=120)


@pytest.mark.parametrize(
    ("error", "lost", "late"),
    [
        (
            RuntimeError("[gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [::1]"),
            True,
            False,
        ),
        (RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 60000ms for recv"), True, True),
        (torch.distributed.DistStoreError("Timed out after 601 seconds waiting for clients. 1/2 joined"), True, True),
        (torch.distributed.DistNetworkError("Failed to recv, got 0 bytes"), True, False),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False, False),
        (ValueError("gloo/"), False, False),
    ],
)
def test_errors_of_lost_contact_are_known(error: Exception, lost: bool, late: bool) -> None:
    assert lost_contact(error) is lost
    assert (lost and timed_out(error)) is late
