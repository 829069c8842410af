"""How a thread gets the main thread out of a collective whose other processes do not come.

In a collective of gloo a process waits without looking at signals. It raises once the others have left, or its
connections to them are cut. Those of NCCL are aborted.
"""

import os
import socket
import threading
from contextlib import suppress

import torch


def abort_collectives() -> None:
    """Aborts those of NCCL; in a thread, for it may wait itself."""
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "nccl":
        abort = torch.distributed.distributed_c10d._abort_process_group
        threading.Thread(target=abort, name="abort", daemon=True).start()


def cut_connections() -> None:
    """Shuts the TCP connections of this process: a collective of gloo that waits for a host that is gone raises then.

    gloo has no other way (its `abort` does nothing), and keeps no list of its sockets. Linux only.
    """
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as connection:  # or no socket
                listens = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if connection.family in (socket.AF_INET, socket.AF_INET6) and not listens:
                    connection.shutdown(socket.SHUT_RDWR)


def lost_contact(error: BaseException) -> bool:
    """Whether an error says no more than that another process could not be reached."""
    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(name in str(error) for name in ("gloo/", "NCCL", "c10d", "TCPStore"))


def timed_out(error: BaseException) -> bool:
    """Whether it is one of these because the time to wait is over."""
    return any(words in str(error).lower() for words in ("timed out", "timeout"))
