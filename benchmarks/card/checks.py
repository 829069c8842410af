"""Whether results hold on an accelerator: the built-in model, trained by the commands, in this process."""

import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from drift_pl import export, fit

SMALL = (
    *("experiment=shapes_flowgrpo", "prompts.per_iteration=2", "prompts.group_size=4", "objective.updates=2"),
    "objective.micro_batch=8",
    *("evaluation.max_prompts=1", "evaluation.seeds_per_prompt=2", "evaluation.grid_seeds=1", "evaluation.measures=[]"),
    *("trainer.progress=false", "trainer.logger=[csv]", "trainer.save_every=1", "sampler.eval_steps=2"),
)
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
RATIO = "policy/ratio_deviation_first"
SHARE, WHOLE = 4, 8
"""Images of an optimizer step of `SMALL`, and of an iteration. Rollout and update compute in equal batches of 4; with a
micro-batch of 8 the rollout's are of 8, and the device may choose other kernels."""
CLIP_RANGE = 1e-4
"""Of most experiments: a deviation has to stay below it."""


def run_checks(accelerator: str, quick: bool) -> dict[str, Any]:
    """Name -> `ok` and what was found; a check that cannot run says why.

    Args:
        quick: leaves out the tests marked `gpu`, which take a process of their own.
    """
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root, place = Path(folder), f"trainer.accelerator={accelerator}"
        for precision in PRECISIONS:
            name = f"ratio is 1 before the first update, {precision}"
            found[name] = attempt(lambda chosen=precision: check_ratio(root / chosen, place, chosen))
        for tf32 in (True, False):  # off last: it is a switch of the whole process
            name = f"ratio in other micro-batches, 32-true, TF32 {'on' if tf32 else 'off'}"
            found[name] = attempt(lambda tf32=tf32: check_other_batches(root / f"tf32-{tf32}", place, tf32))
        found["resumed = uninterrupted"] = attempt(lambda: check_resume(root, place))
        found["export"] = attempt(lambda: check_export(root))
    if not quick:
        found["tests marked gpu"] = attempt(check_marked_tests)
    return found


def attempt(check: Any) -> dict[str, Any]:
    try:
        return check()
    except (Exception, SystemExit) as error:
        return {"ok": False, "error": str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)}


def command(main: Callable[[list[str]], int], *words: str) -> None:
    """Runs a command of the package in this process.

    Raises:
        RuntimeError: it failed; with the last line of what it said.
    """
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = main(list(words))
    if status:
        raise RuntimeError(said.getvalue().strip().splitlines()[-1])


def train(run_dir: Path, *settings: str) -> dict[str, Any]:
    """A short run; its last checkpoint."""
    command(fit.main, *SMALL, *settings, f"run_dir={run_dir}")
    return last_checkpoint(run_dir)


def last_checkpoint(run_dir: Path) -> dict[str, Any]:
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")


def check_ratio(run_dir: Path, place: str, precision: str) -> dict[str, Any]:
    values = ratios(run_dir, place, f"trainer.precision={precision}", f"objective.micro_batch={SHARE}")
    return {"ok": max(values) == 0.0, "largest_deviation": max(values), "iterations": len(values)}


def check_other_batches(run_dir: Path, place: str, tf32: bool) -> dict[str, Any]:
    """Sums of float32 differ in their last bits in other kernels; where TF32 rounds the next inputs, 2^-11 of them."""
    precision = ("trainer.precision=32-true", f"trainer.tf32={tf32}".lower())
    values = ratios(run_dir, place, *precision, f"objective.micro_batch={WHOLE}")
    return {"ok": max(values) < CLIP_RANGE, "largest_deviation": max(values), "iterations": len(values)}


def ratios(run_dir: Path, *settings: str) -> list[float]:
    """Largest deviation from 1 before the first update, of two iterations."""
    train(run_dir, *settings, "trainer.iterations=2")
    values = [float(row[RATIO]) for path in run_dir.rglob("metrics.csv") for row in rows_of(path) if row.get(RATIO)]
    if not values:
        raise ValueError(f"no {RATIO} in {run_dir}")
    return values


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check_resume(root: Path, place: str) -> dict[str, Any]:
    """Two iterations in one go, again, and one after the other. A card may add up in another order each time."""
    whole = train(root / "whole", place, "trainer.iterations=2")
    again = train(root / "again", place, "trainer.iterations=2")
    train(root / "parts", place, "trainer.iterations=1")
    command(fit.main, f"ckpt_path={root / 'parts'}", "trainer.iterations=2")
    resumed, repeated = distance(whole, last_checkpoint(root / "parts")), distance(whole, again)
    return {"ok": resumed == 0.0, "largest_difference": resumed, "of_the_same_run_twice": repeated}


def distance(first: dict[str, Any], second: dict[str, Any]) -> float:
    pairs = zip(first["state_dict"].values(), second["state_dict"].values(), strict=True)
    return max(float((one.nan_to_num() - other.nan_to_num()).abs().max()) for one, other in pairs)


def check_export(root: Path) -> dict[str, Any]:
    """Writes a LoRA of the run of `check_resume`."""
    command(export.main, f"ckpt_path={root / 'whole'}", f"out={root / 'exported'}")
    files = sorted(path.name for path in (root / "exported").iterdir())
    return {"ok": any(name.endswith(".safetensors") for name in files), "files": files}


def check_marked_tests() -> dict[str, Any]:
    tests = Path(__file__).parents[2] / "tests" / "sampling"
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(tests)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return {"ok": done.returncode == 0, "said": said[-1] if said else f"status {done.returncode}"}
