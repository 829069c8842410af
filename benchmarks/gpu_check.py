"""Models of full size on your accelerator: speed, memory, share of its peak, and whether results hold on it.

    python benchmarks/gpu_check.py [--quick] [--tiny] [out=gpu_check.json] [only=TEXT] [limit_s=SECONDS]

`make gpu-check ARGS=--quick` calls it. It needs no network and no weights: networks of published configurations are
filled with random numbers on the device. Each configuration of `card/rows.py` trains two iterations of a shipped
experiment in a process of its own and is ended after its limit; the file is written after each of them, so that what is
there stays if a later one fails or you stop it. Twenty minutes; `--quick` ends within three on an H100. `--tiny` tries
the script itself on a CPU.

`denoiser_share` is the share of an iteration's time in the denoiser's passes, forward and backward; `share_of_peak` is
counted FLOPs per second over the peak of the device's maker. `only=` takes the rows whose name contains a text.
"""

import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from card.rows import ROWS, Row

CHECKS = "checks"
MARK = "result: "
PACKAGES = ("torch", "diffusers", "transformers", "peft", "lightning")
QUICK_LIMIT_S, QUICK_IMAGES, TINY_IMAGES, QUICK_ALL_S = 90, 8, 4, 175
"""With `--quick`: limit of a row, images of an iteration (and with `--tiny`), and seconds after which all is ended."""


def main(argv: list[str]) -> int:
    if argv[:1] == ["row"]:
        return work(json.loads(argv[1]))
    if {"--help", "-h"} & set(argv):
        print(__doc__, end="")
        return 0
    flags = {item for item in argv if item in ("--quick", "--tiny")}
    given = dict(item.split("=", 1) for item in argv if "=" in item)
    known = {"out", "only", "limit_s"}
    unknown = [item for item in argv if item not in flags and item.split("=", 1)[0] not in known or item in known]
    if unknown:
        print(f"error: {unknown[0]!r} is no option here: use --quick, --tiny, out=, only=, limit_s=", file=sys.stderr)
        return 2
    quick, tiny = "--quick" in flags, "--tiny" in flags
    if not tiny and not has_cuda():
        print("error: there is no CUDA device here: --tiny tries the script on a CPU", file=sys.stderr)
        return 2
    out = Path(given.get("out", "gpu_check.json"))
    record: dict[str, Any] = {"quick": quick, "tiny": tiny, "device": None, "rows": {}, CHECKS: None}
    record["packages"] = {name: version(name) for name in PACKAGES}
    began = time.monotonic()
    for name in chosen(given.get("only", ""), quick):
        left_s = QUICK_ALL_S - (time.monotonic() - began) if quick and not tiny else float("inf")
        if left_s < 15:
            found: dict[str, Any] = {"error": "not begun: --quick ends within three minutes"}
        else:
            found = row(name, quick, tiny, float(given.get("limit_s", 0)), left_s)
        if name == CHECKS:
            record[CHECKS] = found
        else:
            record["rows"][name] = found
        record["device"] = record["device"] or found.get("device")
        out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        print(line(name, found), flush=True)
    print(f"{out}: {time.monotonic() - began:.0f} s")
    failed = [name for name, found in record["rows"].items() if "error" in found]
    return int(bool(failed))


def has_cuda() -> bool:
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def chosen(text: str, quick: bool) -> list[str]:
    """Rows in their order; the checks after the first three, so that a quick form has them."""
    names = [name for name, entry in ROWS.items() if entry.quick or not quick]
    names.insert(3, CHECKS)
    return [name for name in names if text in name]


def row(name: str, quick: bool, tiny: bool, limit_s: float, left_s: float) -> dict[str, Any]:
    """Runs a row in a process of its own, and returns what it found, or its last line as `error`."""
    entry = ROWS.get(name, Row(()))
    limit_s = min(left_s, limit_s or (QUICK_LIMIT_S if quick and not tiny else entry.limit_s))
    images = TINY_IMAGES if tiny else QUICK_IMAGES if quick else entry.images
    order = json.dumps({"name": name, "images": images, "quick": quick, "tiny": tiny})
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, __file__, "row", order], capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"ended after {limit_s:.0f} s", "wall_s": time.monotonic() - began}
    wall = {"wall_s": time.monotonic() - began}
    results = [text for text in done.stdout.splitlines() if text.startswith(MARK)]
    if results:
        return {**json.loads(results[-1].removeprefix(MARK)), **wall}
    said = (done.stderr.strip() or f"status {done.returncode}").splitlines()
    return {"error": said[-1], "tail": said[-12:], **wall}


def work(order: dict[str, Any]) -> int:
    """One row, in this process."""
    import torch

    if order["name"] == CHECKS:
        from card.checks import run_checks

        found = run_checks("cpu" if order["tiny"] else "gpu", order["quick"])
    else:
        from card.measure import measure

        found = measure(ROWS[order["name"]].settings, order["images"], order["tiny"])
    if torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name()
    print(f"{MARK}{json.dumps(found)}", flush=True)
    return 0


def line(name: str, found: dict[str, Any]) -> str:
    if "error" in found:
        return f"{name:44} {found['error']}"
    if "images_per_s" not in found:
        return f"{name:44} " + "; ".join(
            f"{check}: {'ok' if entry['ok'] else entry}" for check, entry in found.items() if isinstance(entry, dict)
        )
    speed, share = found["images_per_s"], found.get("share_of_peak", {}).get("iteration")
    peak = "" if share is None else f"  {share:5.1%} of peak"
    return (
        f"{name:44} {speed['iteration']:6.2f} images/s (rollout {speed['rollout']:.2f}, update {speed['update']:.2f})"
        f"  {found['peak_bytes'] / 1e9:6.2f} GB  denoiser {found['denoiser_share']:5.1%}{peak}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
