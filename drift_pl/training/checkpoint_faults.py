"""What may be wrong inside a checkpoint: parts of the wrong type, names, counts and numbers that are not finite."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from drift_pl.training.eight_bit import spoilt, without_scales

PARTS: dict[str, type | tuple[type, ...]] = {
    "PromptDataModule": dict,
    "epoch": int,
    "global_step": int,
    "run_identity": str,
    "state_dict": dict,
    "average": (dict, type(None)),
    "optimizer_states": list,
    "loops": dict,
    "callbacks": dict,
    "lr_schedulers": list,
    "pytorch-lightning_version": str,
}
KEPT_WEIGHTS = ("average", "old_policy")
"""Parts with weights beside the trained ones; the second is missing in checkpoints of version 0.2 and earlier."""
LARGEST = 2**53
"""Counts are smaller."""
MEASURED = ("base_group_std", "base_diversity")
"""Buffers that are NaN until they have been measured."""
PROGRESS = ("loops", "fit_loop", "epoch_loop.batch_progress", "total", "completed")
CALLBACKS: dict[str, dict[str, tuple[type, ...]]] = {
    "HeldOutEvaluation": {"seconds": (int, float), "images": (int,)},
    "DiversityAlarm": {"start": (list,), "recent": (list,), "warned": (bool,)},
}
"""What our callbacks keep: numbers, and lists of numbers."""

SETTINGS = {"lr": 1, "betas": 2, "eps": 1, "weight_decay": 1}
MOST = {"lr": 1e6, "betas": 1.0, "eps": 1e6, "weight_decay": 1e6}
"""What AdamW is set to: how many numbers, all of them at least 0 and less than this."""
NEVER_NEGATIVE = ("step", "exp_avg_sq")
"""What AdamW keeps of a parameter: a count, and a mean of squares."""

IDENTITY = re.compile(r".+-s-?\d+")

_OPTIMIZER = {"state": dict, "param_groups": list}


def faults(content: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a checkpoint, one phrase each; what is not what it should be at all may raise instead."""
    for part, kind in PARTS.items():
        if not isinstance(content.get(part, ...), kind):
            yield f"its {part} is " + ("missing" if part not in content else type(content[part]).__name__)
    yield from _mark_faults(content)
    iteration = content["PromptDataModule"].get("iteration")
    if type(iteration) is not int or not 0 <= iteration < LARGEST:
        yield f"its iteration is {iteration!r}"
    for part in ("epoch", "global_step"):
        if not 0 <= content[part] < LARGEST:
            yield f"its {part} is {content[part]}"
    counts = _leaves(content["loops"].get("fit_loop"))
    done = _at(content, PROGRESS)
    if type(done) is not int or not all(isinstance(count, int) for count in counts):
        yield "its loops do not say how far the run was"
    elif abs(done - iteration) > 1:  # a callback may save while Lightning has not counted the batch yet
        yield f"its loops say {done} iterations, and its iteration is {iteration}"
    yield from _callback_faults(content["callbacks"])
    weights = content["state_dict"]
    yield from _tensor_faults("state_dict", {name: weights[name] for name in weights if name not in MEASURED})
    for part in KEPT_WEIGHTS:
        yield from _kept_faults(part, content.get(part))
    yield from _optimizer_faults(content, iteration)


def optimizer_entries(content: Mapping[str, Any]) -> int:
    """Parameters that have optimizer state; none as long as no image gave a gradient."""
    return sum(len(state["state"]) for state in content["optimizer_states"])


def _kept_faults(part: str, kept: Any) -> Iterator[str]:
    """What is wrong with weights beside the trained ones."""
    if kept is None:
        return
    yield from _tensor_faults(part, {name: kept[name] for name in kept if name != "num_updates"})
    if type(kept.get("num_updates")) is not int or kept["num_updates"] < 0:
        yield f"its {part} does not say how often it was updated"


def _callback_faults(callbacks: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the counts of our callbacks, and Lightning's files; others may keep what they like."""
    for state in (callbacks[name] for name in callbacks if name.startswith("ModelCheckpoint")):
        if not all(isinstance(value, str) for key, value in state.items() if key.endswith("path")):
            yield "its ModelCheckpoint has a path that is no text"
        if not all(isinstance(value, Tensor | float | int) for value in state["best_k_models"].values()):
            yield "its ModelCheckpoint has a score that is no number"
    for name, entries in CALLBACKS.items():
        state = callbacks.get(name, {})
        for entry in entries if name in callbacks else ():
            value = state.get(entry) if isinstance(state, dict) else None
            numbers = value if isinstance(value, list) else [value]
            known = all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
            if type(value) not in entries[entry] or not known:
                yield f"the {entry} of its {name} is " + ("missing" if value is None else repr(value))


def _mark_faults(content: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the marks of its run; version 0.1 had the identity alone."""
    if not IDENTITY.fullmatch(content["run_identity"]):
        yield f"its run_identity is {content['run_identity']!r}"
    settings = content.get("run_settings", {"seed": 0})
    if not isinstance(settings, dict) or not settings or not all(isinstance(key, str) for key in settings):
        yield "its run_settings are no dictionary of names"
    inputs = content.get("run_inputs", {})
    if not isinstance(inputs, dict) or not all(isinstance(text, str) for pair in inputs.items() for text in pair):
        yield "its run_inputs are no dictionary of digests"
    if not isinstance(content.get("stopped"), str | None):
        yield f"its reason to stop is {content['stopped']!r}"


def _at(node: Any, path: Iterable[str]) -> Any:
    """What stands at a place in nested dictionaries; None if there is no such place."""
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _leaves(node: Any) -> Iterator[Any]:
    """What is not a dictionary in nested dictionaries."""
    if isinstance(node, dict):
        for value in node.values():
            yield from _leaves(value)
    else:
        yield node


def _tensor_faults(part: str, tensors: Mapping[str, Any]) -> Iterator[str]:
    if not tensors:
        yield f"its {part} is empty"
    for name, value in tensors.items():
        if not isinstance(name, str):
            yield f"a name in its {part} is {name!r}"
        elif not isinstance(value, Tensor) or not value.is_floating_point():
            yield f"{name} in its {part} is not a floating-point tensor"
        elif not value.isfinite().all():
            yield f"{name} in its {part} is not finite"


def _optimizer_faults(content: Mapping[str, Any], iteration: int) -> Iterator[str]:
    states = content["optimizer_states"]
    if len(states) != 1 or not all(isinstance(states[0].get(part), kind) for part, kind in _OPTIMIZER.items()):
        yield "its optimizer_states are not those of one optimizer"
    # version 0.2 and earlier did not count: there an optimizer without any state has lost it
    expected = content.get("optimizer_entries", optimizer_entries(content) or int(iteration > 0))
    if optimizer_entries(content) != expected:
        yield f"its optimizer_states have {optimizer_entries(content)} entries in place of {expected}"
    kinds = [_kinds(without_scales(state)) for state in states[0]["state"].values()]
    if any(kind != kinds[0] or "moment" not in kind.values() for kind in kinds):
        yield "its optimizer_states have a parameter with other entries than the rest"
    for wrong in filter(None, map(spoilt, states[0]["state"].values())):
        yield f"its optimizer_states have {wrong}"
    for group in states[0]["param_groups"]:
        yield from _group_faults(group)
    if not all(torch.as_tensor(number).isfinite().all() for number in _numbers(states)):
        yield "its optimizer_states are not finite"
    for state in states[0]["state"].values():
        for name in NEVER_NEGATIVE:
            if (torch.as_tensor(state.get(name, 0)) < 0).any():
                yield f"the {name} of a parameter in its optimizer_states is negative"


def _group_faults(group: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the settings of a group of parameters, as AdamW has them."""
    if not isinstance(group.get("params"), list):
        yield "its optimizer_states have a group without parameters"
    for name, count in SETTINGS.items():
        value = group.get(name)
        given = value if isinstance(value, tuple | list) else [value]
        numbers = [
            float(each) for each in given if isinstance(each, Tensor | float | int) and not isinstance(each, bool)
        ]
        if not len(given) == len(numbers) == count or not all(0 <= each < MOST[name] for each in numbers):
            yield f"the {name} in its optimizer_states is " + ("missing" if value is None else repr(value))


def _kinds(state: Mapping[str, Any]) -> dict[str, str]:
    """What an optimizer keeps of a parameter: moments of its shape, single numbers, and what is neither."""
    return {name: _kind(value) for name, value in state.items()}


def _kind(value: Any) -> str:
    if isinstance(value, Tensor) and value.ndim:
        return "moment"
    return "number" if isinstance(value, Tensor | float | int) else type(value).__name__


def _numbers(state: Any) -> Iterator[Tensor | float]:
    """Tensors and floats in nested dictionaries and sequences."""
    if isinstance(state, Tensor | float):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _numbers(value)
