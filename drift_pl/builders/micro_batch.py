"""`objective.micro_batch=auto`: the number of images per forward pass, measured once on the run's device."""

import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from drift_pl.builders.hardware import choose_device
from drift_pl.builders.scoring import prompts_of
from drift_pl.config.batches import derive_batches
from drift_pl.config.own_run import earlier_folder
from drift_pl.config.processes import is_first_launched
from drift_pl.config.schema import Config
from drift_pl.core.errors import UserError
from drift_pl.core.files import write_json, write_text
from drift_pl.core.rng import make_generator
from drift_pl.policies.protocol import Policy
from drift_pl.sampling.prompts import PromptEncoder

RECORD = "micro_batch.json"
"""In the run's folder: what was chosen, and seconds per image of each size. A resumed run reads it."""
LARGEST, REPEATS, WAIT_S = 128, 3, 600.0
GAIN, MEMORY = 0.05, 0.8
"""A larger size must gain this share of the time per image, and stay below this share of the device's memory."""


def with_micro_batch(config: Config, policy: Policy, run_dir: Path) -> Config:
    """The config with the number of the run's record, or of the run that it goes on from in another folder.

    Without one the first process measures it.

    Args:
        policy: whole, not sharded.

    Raises:
        UserError: not even one image fits, or the first process does not come to a number.
    """
    record, earlier = run_dir / RECORD, earlier_folder(config.ckpt_path)
    size = read_record(record)
    if size is None and earlier is not None:
        size = read_record(earlier / RECORD)
        if size is not None and is_first_launched(config):
            write_text(record, (earlier / RECORD).read_text(encoding="utf-8"))
    if size is None and is_first_launched(config):
        seconds = measure(config, policy)
        size = best_size(seconds)
        write_json(record, {"micro_batch": size, "seconds_per_image": seconds})
    until = time.monotonic() + WAIT_S
    while size is None:
        if time.monotonic() > until:
            raise UserError(f"objective.micro_batch=auto: the first process has not written {record}: give a number")
        time.sleep(0.2)
        size = read_record(record)
    return config.model_copy(update={"objective": config.objective.model_copy(update={"micro_batch": size})})


def read_record(path: Path) -> int | None:
    """The number that was chosen; None if there is no record."""
    try:
        size = json.loads(path.read_text(encoding="utf-8"))["micro_batch"]
        return size if isinstance(size, int) and size > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def best_size(seconds: dict[int, float]) -> int:
    """The smallest size from which no doubling, nor several together, gain `GAIN` of the time per image.

    Args:
        seconds: size -> seconds per image, infinite where it does not fit.
    """
    fastest = min(seconds.values())
    return min(size for size, own in seconds.items() if own <= fastest * (1 + GAIN))


def measure(config: Config, policy: Policy) -> dict[int, float]:
    """Seconds per image of a pass of the denoiser and its backward, by size: 1, 2, 4, ... while they gain and fit.

    Raises:
        UserError: one image does not fit.
    """
    device, autocast = choose_device(config)
    policy.network.to(device)
    policy.to(device)
    found: dict[int, float] = {}
    size, most = 1, min(LARGEST, derive_batches(config).images_per_process)
    while size <= most:
        try:
            found[size] = _seconds(config, policy, size, device, autocast) / size
        except torch.OutOfMemoryError:
            found[size] = math.inf
        before = [found[small] for small in (size // 2, size // 4) if small in found]
        if found[size] == math.inf or (len(before) == 2 and found[size] > min(before) * (1 - GAIN)):
            break
        size *= 2
    if min(found.values()) == math.inf:
        raise UserError(
            "objective.micro_batch=auto: one image does not fit into the device's memory: set "
            "policy.gradient_checkpointing=true, or a lower policy.resolution"
        )
    return {size: seconds for size, seconds in found.items() if seconds < math.inf}


def _seconds(
    config: Config,
    policy: Policy,
    size: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> float:
    """Of one pass of `size` images, the fastest of a few; infinite if it takes too much memory."""
    cuda, guidance = device.type == "cuda", config.policy.guidance_scale
    generator = make_generator("micro_batch_trial", size)
    latents_BCHW = torch.randn(size, *policy.latent_shape, generator=generator).to(device)
    encode = PromptEncoder(policy)
    condition = encode(prompts_of(config, "train")[:1], device).repeat_interleave(size)
    negative = encode([config.policy.negative_prompt], device, negative=True)
    sigma = policy.sigmas(config.sampler.steps)[config.sampler.steps // 2]
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        with autocast():
            policy.predict(latents_BCHW, sigma, condition, negative, guidance).float().square().mean().backward()
        if cuda:
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
        for _, parameter in policy.trainable_parameters():
            parameter.grad = None
    with torch.no_grad():
        policy.decode(latents_BCHW)
    if not cuda:
        return min(times[1:])
    peak, room = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
    torch.cuda.empty_cache()
    return min(times[1:]) if peak < MEMORY * room else math.inf
