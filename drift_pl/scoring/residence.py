"""Where networks are while they are not used: on the accelerator, or, with `policy.offload`, in main memory."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from drift_pl.scoring.protocol import move

PARKED = torch.device("cpu")


@contextmanager
def resident(parts: Iterable[object], device: torch.device | str, offload: bool = True) -> Iterator[None]:
    """Within it parts are on a device; before and after it in main memory, unless `offload` is off: they stay then."""
    parts = list(parts) if offload else []
    try:
        for part in parts:
            move(part, device)
        yield
    finally:
        for part in parts:
            move(part, PARKED)
