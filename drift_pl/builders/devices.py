"""What a plan is made for: a device, by its memory and speed. No torch."""

from collections.abc import Mapping
from typing import NamedTuple

from drift_pl.core.errors import UserError


class Device(NamedTuple):
    """Memory in GB of 10^9 bytes, and the dense peak of bfloat16 in TFLOP/s by its maker."""

    gigabytes: float
    tflops: float


DEVICES: Mapping[str, Device] = {
    "rtx3090": Device(24, 71),
    "rtx4090": Device(24, 165),
    "rtx5090": Device(32, 209),
    "l40s": Device(48, 362),
    "a100": Device(80, 312),
    "h100": Device(80, 989),
    "h200": Device(141, 989),
}
BY_MEMORY = {24: "rtx4090", 32: "rtx5090", 48: "l40s", 80: "h100", 141: "h200"}
"""GB -> the device whose peak stands for that memory."""


def device_of(text: str, tflops: float | None) -> tuple[str, Device]:
    """The name and numbers of `24GB`, or of a key of `DEVICES`.

    Raises:
        UserError: it is neither.
    """
    word = text.lower().replace(" ", "").removesuffix("gib").removesuffix("gb")
    name = word.replace("-", "")
    if name in DEVICES:
        found = DEVICES[name]
    else:
        try:
            gigabytes = float(word)
        except ValueError:
            gigabytes = 0.0
        if not 0 < gigabytes < 1e5:
            raise UserError(f"device={text} is no memory and no known device: use e.g. 24GB, {', '.join(DEVICES)}")
        name = BY_MEMORY.get(int(gigabytes), "h100")
        found = Device(gigabytes, DEVICES[name].tflops)
    return name, found if tflops is None else Device(found.gigabytes, tflops)
