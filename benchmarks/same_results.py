"""Check that two checkouts of this package give the same results, bit for bit, and the same configs.

    python benchmarks/same_results.py OLD NEW [--only NAME ...] [--renamed OLD_KEY=NEW_KEY ...]

For changes that must not change results. OLD and NEW are source trees, e.g. `git worktree add ../old main`; both run in
the environment of this Python, one after the other, on one thread, and only through the commands, so their internals
may differ. Five short runs are trained with each: three experiments of the built-in world, and tiny models in the
formats of Stable Diffusion 1.5 and FLUX. Weights, their average and the optimizer's state must be equal in every bit,
metrics and summary in every digit, except for times; and every experiment of OLD must have the same `--print-config`.
Runs are identified by their seed: the hash of the settings may change its format. Keys that only NEW has are listed,
and are not differences. The exit status is 0 if everything is the same, else 1.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

Flat = dict[str, Any]
Renames = Sequence[tuple[str, str]]

COMMON = (
    # so that in two iterations images are dropped, and ratios and gradients clipped
    *("objective.learning_rate=0.01", "objective.clip_range=1e-3", "objective.max_grad_norm=5e-3"),
    *("incentive.selection.kappa=1", "objective.advantage_clip=1.5"),
    *("prompts.per_iteration=4", "prompts.group_size=6", "objective.micro_batch=8", "trainer.iterations=2"),
    *("evaluation.every=1", "evaluation.max_prompts=2", "evaluation.seeds_per_prompt=4"),
    *("evaluation.seeds_while_training=4", "evaluation.grid_prompts=1", "evaluation.grid_seeds=2"),
    *("trainer.threads=1", "trainer.accelerator=cpu", "trainer.logger=[csv]", "trainer.progress=false"),
)
TINY = (
    *("experiment=shapes_drift", "policy.lora.targets=[to_q,to_k,to_v,to_out.0]", "evaluation.measures=[]"),
    "objective.kl_weight=0.1",
)
RUNS: dict[str, tuple[str, ...]] = {
    "shapes_flowgrpo": ("experiment=shapes_flowgrpo",),
    "shapes_drift": ("experiment=shapes_drift",),
    "shapes_div": ("experiment=shapes_div",),
    "sd15": (
        *(*TINY, "policy.family=sd15", "policy.pretrained=sd15", "policy.guidance_scale=2.0", "sampler.kind=ddim"),
        *("sampler.noise_level=1.0", "sampler.eval_importance_power=1.5", "incentive.shaping.form=per_step"),
    ),
    "flux": (
        *(*TINY, "policy.family=flux", "policy.pretrained=flux", "policy.guidance_scale=3", "policy.resolution=16"),
        *("evaluation.resolution=24", "policy.max_sequence_length=48", "objective.clip_range=1e-4"),
    ),
}
CONFIGS = "configs"
MAKE_TINY = "import tiny_models as tiny; from pathlib import Path; tiny.save_tiny_{0}(Path('{0}'))"
TRAINING_STATE = ("state_dict", "average", "optimizer_states", "PromptDataModule")
NOT_COMPARED = {"seconds", "config_hash"}
"""Entries of the summary that depend on the machine, or on the format of hashes."""


class CommandFailed(Exception):
    """Names the checkout, and gives the last line of the command's output."""


@dataclass(frozen=True)
class Comparison:
    """A text for each difference between two checkouts, and keys that the new one may add."""

    what: str
    total: int
    differences: list[str]
    new: list[str]


def flatten(tree: Any, key: str = "") -> Flat:
    """Leaves of nested mappings and lists by their dotted keys, and the length of each list under its own key."""
    if isinstance(tree, (list, tuple)):
        flat, children = {key: f"{len(tree)} entries"}, dict(enumerate(tree))
    elif isinstance(tree, dict) and tree:
        flat, children = {}, tree
    else:
        return {key: tree}
    for name, value in children.items():
        flat |= flatten(value, f"{key}.{name}" if key else str(name))
    return flat


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def difference(old: Any, new: Any) -> str | None:
    """How two values differ, or None: tensors are compared by their bits, numbers by their digits and type."""
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            return f"{old.dtype} {tuple(old.shape)} -> {new.dtype} {tuple(new.shape)}"
        same = torch.equal(bits(old), bits(new))
        return None if same else f"by up to {float((old.double() - new.double()).abs().max()):.2e}"
    if isinstance(old, list) and isinstance(new, list):
        pairs = enumerate(zip_longest(old, new))
        return next((f"in row {row}: {a} -> {b}" for row, (a, b) in pairs if a != b), None)
    return None if repr(old) == repr(new) else f"{old!r} -> {new!r}"


def compare(what: str, old: Flat, new: Flat, may_add: bool = False) -> Comparison:
    """Key by key, in the old one's order.

    Args:
        may_add: whether keys that only the new one has are listed apart, and are not differences.
    """
    differences = []
    for key, value in old.items():
        found = difference(value, new[key]) if key in new else "is missing"
        if found:
            differences.append(f"{key} {found}")
    added = [key for key in new if key not in old]
    if not may_add:
        differences += [f"{key} is new" for key in added]
    return Comparison(what, len(old), differences, added if may_add else [])


def verdict(name: str, comparisons: Sequence[Comparison]) -> str:
    """The line of the report: how much is the same, or how much differs and the first difference."""
    differing = [part for part in comparisons if part.differences]
    if differing:
        texts = [f"{len(part.differences)} of {part.total} {part.what}: {part.differences[0]}" for part in differing]
        line = f"{name}: DIFFERENT: {'; '.join(texts)}"
    else:
        line = f"{name}: same: {', '.join(f'{part.total} {part.what}' for part in comparisons)}"
    new = [key for part in comparisons for key in part.new]
    return f"{line}; new keys: {', '.join(new)}" if new else line


def rename(key: str, renames: Renames) -> str:
    """The new name of a key, also if its section is renamed."""
    for old, new in renames:
        if key == old or key.startswith(f"{old}."):
            return new + key[len(old) :]
    return key


def run_python(checkout: Path, folder: Path, *arguments: str) -> str:
    """Standard output of this Python with a checkout's modules, run in a folder outside of both checkouts."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CommandFailed(f"{checkout}: status {done.returncode}: {last}")
    return done.stdout


def read_run(run_dir: Path) -> dict[str, Flat]:
    """A finished run's results, without times and hashes; metrics row by row, as written."""
    content = torch.load(run_dir / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    state = flatten({part: content[part] for part in TRAINING_STATE})
    state["seed"] = content["run_identity"].rpartition("-s")[2]
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    with (run_dir / "csv" / "metrics.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    metrics = {name: [row[name] for row in rows] for name in rows[0] if not name.startswith("time/")}
    summary = flatten(json.loads((run_dir / "summary.json").read_text()))
    return {
        "tensors": tensors,
        "other entries of the checkpoint": {key: value for key, value in state.items() if key not in tensors},
        "metrics": metrics,
        "entries of the summary": {key: value for key, value in summary.items() if key not in NOT_COMPARED},
    }


def compare_trained(name: str, checkouts: Sequence[Path], folder: Path, renames: Renames) -> list[Comparison]:
    run_dirs = [folder / f"{name}-old", folder / f"{name}-new"]
    for checkout, run_dir, names in zip(checkouts, run_dirs, ((), renames), strict=True):
        pairs = [argument.split("=", 1) for argument in (*COMMON, *RUNS[name], f"run_dir={run_dir.name}")]
        argv = [f"{rename(key, names)}={value}" for key, value in pairs]
        run_python(checkout, folder, "-m", "drift_pl.fit", *argv)
    old, new = map(read_run, run_dirs)
    return [compare(what, flat, new[what]) for what, flat in old.items()]


def compare_configs(name: str, checkouts: Sequence[Path], folder: Path, renames: Renames) -> list[Comparison]:
    argv = ["-m", "drift_pl.fit", f"experiment={name}", "--print-config"]
    old, new = (flatten(yaml.safe_load(run_python(checkout, folder, *argv))) for checkout in checkouts)
    return [compare("keys", {rename(key, renames): value for key, value in old.items()}, new, may_add=True)]


def list_experiments(checkout: Path) -> list[str]:
    """Names of a checkout's experiments, whether their folder is beside the package or in it."""
    folders = (checkout / "experiments", checkout / "drift_pl" / "experiments")
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})


def report(checkouts: Sequence[Path], only: Sequence[str], renames: Renames) -> Iterator[tuple[str, bool]]:
    """A line for each comparison, and whether it found no difference."""
    experiments = list_experiments(checkouts[0]) if CONFIGS in only else []
    steps = [(f"config {name}", compare_configs, name) for name in experiments]
    steps += [(f"run {name}", compare_trained, name) for name in RUNS if name in only]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for family in {"sd15", "flux"} & set(only):
            run_python(checkouts[0] / "tests", folder, "-c", MAKE_TINY.format(family))
        for title, step, name in steps:
            try:
                comparisons = step(name, checkouts, folder, renames)
                yield verdict(title, comparisons), not any(part.differences for part in comparisons)
            except (CommandFailed, OSError, KeyError) as error:  # also if a run did not write what it should
                yield f"{title}: FAILED: {error!r}", False


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs=2, type=Path, metavar="CHECKOUT", help="source trees, OLD then NEW")
    names = [CONFIGS, *RUNS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--renamed", nargs="+", default=[], metavar="OLD_KEY=NEW_KEY", help="keys, or sections, with another name"
    )
    arguments = parser.parse_args(argv)
    arguments.checkouts = [checkout.resolve() for checkout in arguments.checkouts]
    for checkout in arguments.checkouts:
        if not (checkout / "drift_pl").is_dir():
            parser.error(f"{checkout} is not a checkout of this package: it has no folder drift_pl")
    for pair in arguments.renamed:
        if pair.count("=") != 1:
            parser.error(f"--renamed {pair}: use e.g. --renamed trainer.alarm=training.alarm")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    renames = [tuple(pair.split("=")) for pair in arguments.renamed]
    outcomes = []
    for line, same in report(arguments.checkouts, arguments.only, renames):
        print(line, flush=True)
        outcomes.append(same)
    return 0 if outcomes and all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
