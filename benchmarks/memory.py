"""What an iteration keeps in memory: every byte that grows with the images, the prompts and the texts seen.

    python benchmarks/memory.py [experiment=NAME] [processes=1] [out=FILE] [KEY=VALUE ...]

Two tables. The first is counted from shapes, for a process of the experiment with its real model (pickscore_div by
default; nothing is loaded): what the rollout, the update and the cache of prompts hold, in bytes, and what it was when
every image had its own condition row and noise. The second is measured on the built-in model: how much the resident
memory of this process grows when rollouts are made and kept, against what its tensors hold by their shapes; what is not
accounted for must stay below a tenth of it.
"""

import ctypes
import gc
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drift_pl.builders.run import build_run
from drift_pl.config.batches import derive_batches
from drift_pl.config.loading import parse
from drift_pl.config.schema import Config
from drift_pl.incentive.prompting import VariedCondition

FLOAT = 4
SHAPES = {"sd3": {"latent": (16, 8), "tokens": 77, "width": 4096, "pooled": 2048}}
"""Family -> latent channels and the factor of the autoencoder, CLIP's tokens, width of a token, pooled embedding."""
ROLLOUTS = 3
SMALL = (
    *("experiment=shapes_drift", "prompts.group_size=32", "sampler.window_range=[]", "sampler.window_size=5"),
    *("trainer.logger=[]", "trainer.progress=false"),
)
ALLOWED = 0.1
MMAP_THRESHOLD = -3
"""Of glibc's mallopt: larger blocks are not taken from the heap."""


def counted(config: Config, processes: int) -> dict[str, dict[str, int]]:
    """Name -> bytes on one process, now and with a row per image: what grows with images and prompts."""
    batches, family = derive_batches(config), SHAPES[config.policy.family]
    images, groups = batches.images_per_iteration // processes, config.prompts.per_iteration // processes
    channels, factor = family["latent"]
    side = config.policy.resolution or 1024
    latent, pixels = channels * (side // factor) ** 2, 3 * side**2
    tokens = (family["tokens"] + config.policy.max_sequence_length) * family["width"]
    row, passes = tokens + family["pooled"], config.objective.micro_batch
    noisy = config.incentive.prompting.rule in ("embedding_noise", "variants_noise")
    texts = images if config.incentive.prompting.rule.startswith("variants") else groups
    kept = {
        "latents of the trained steps": ((batches.trained_steps + 1) * images * latent, None),
        "final latents": (images * latent, None),
        "images": (images * pixels, None),
        "log-probabilities": (batches.trained_steps * images, None),
        "conditions, one row per text": (min(texts, images) * row, images * row),
        "noise of the prompts": ((passes if noisy else 0) * tokens, (images if noisy else 0) * tokens),
    }
    if batches.noise_levels:
        levels = batches.noise_levels * images * latent
        kept["noised latents, velocities and noise of nft"] = (4 * levels, None)
    if config.objective.ratio == "guard":
        kept["means of the trained steps"] = (batches.trained_steps * images * latent, None)
    cache = int(config.prompts.cache_gb * 10**9)
    found = {
        name: {"now": FLOAT * now, "row_per_image": FLOAT * (now if then is None else then)}
        for name, (now, then) in kept.items()
    }
    return found | {"encoded prompts in main memory, at most": {"now": cache, "row_per_image": FLOAT * row * 25_000}}


def resident() -> int:
    """Bytes of this process in main memory, without what its allocator keeps for later (glibc)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def held(*things: Any) -> int:
    """Bytes of the tensors of dataclasses, each storage once."""
    tensors = [value for thing in things for value in vars(thing).values() if isinstance(value, Tensor)]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def noise_of(condition: VariedCondition) -> int:
    """Bytes of the noise of the last micro-batch's prompts, which the next step uses again."""
    kept = condition.noise._kept.values() if condition.noise else []
    return sum(noise.nbytes for pair in kept for noise in pair if noise is not None)


def measured(overrides: Sequence[str]) -> dict[str, Any]:
    """Growth of the resident memory over some rollouts beside a first, and the bytes of their tensors."""
    ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 2**16)  # tensors get pages of their own, and give them back
    with tempfile.TemporaryDirectory() as folder:
        config = parse([*SMALL, *overrides, f"run_dir={folder}/run"]).config
        run = build_run(config, Path(folder) / "run")
    run.datamodule.setup("fit")
    module, device = run.module, torch.device("cpu")
    batches = iter(run.datamodule.train_dataloader())
    kept = [module.sample(next(batches), device)]  # what is allocated once: caches, buffers of kernels
    before, texts = resident(), module.encode_prompts._size
    kept += [module.sample(next(batches), device) for _ in range(ROLLOUTS)]
    grown = resident() - before
    further = kept[1:]
    shapes = (
        module.encode_prompts._size
        - texts
        + held(*(trajectory for _, trajectory in further), *(condition.clean for condition, _ in further))
        + sum(noise_of(condition) for condition, _ in further)
    )
    return {
        "images": sum(len(condition) for condition, _ in further),
        "condition_rows": sum(len(condition.clean) for condition, _ in further),
        "tensors": shapes,
        "resident": grown,
        "unaccounted": (grown - shapes) / shapes,
    }


def main(argv: Sequence[str]) -> None:
    torch.set_num_threads(1)
    given = dict(item.split("=", 1) for item in argv)
    out, processes = given.pop("out", ""), int(given.pop("processes", "1"))
    experiment = given.pop("experiment", "pickscore_div")
    config = parse([f"experiment={experiment}", *(f"{name}={value}" for name, value in given.items())]).config
    table = counted(config, processes)
    print(f"{experiment}, {derive_batches(config).images_per_iteration // processes} images on a process, GB:")
    for name, entry in table.items():
        print(f"  {name:42} {entry['now'] / 1e9:7.2f}   (a row per image: {entry['row_per_image'] / 1e9:.2f})")
    found = measured([])
    growth = f"{found['resident'] / 1e6:.1f} MB resident, {found['tensors'] / 1e6:.1f} MB of tensors"
    print(f"built-in model, {found['images']} images: {growth}, {found['unaccounted']:+.1%} unaccounted")
    content = {"experiment": experiment, "processes": processes, "counted_bytes": table, "measured": found}
    if out:
        Path(out).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sys.exit(abs(found["unaccounted"]) > ALLOWED)


if __name__ == "__main__":
    main(sys.argv[1:])
