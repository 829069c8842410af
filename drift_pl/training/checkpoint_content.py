"""What a checkpoint must hold: its parts, their names and shapes, finite numbers. A spoilt one is one line."""

import math
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.locate import first_line
from drift_pl.training.eight_bit import spoilt, without_scales

PARTS: dict[str, type | tuple[type, ...]] = {
    "PromptDataModule": dict,
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
MEASURED = ("base_group_std", "base_diversity")
"""Buffers that are NaN until they have been measured."""
CALLBACKS: dict[str, dict[str, tuple[type, ...]]] = {
    "HeldOutEvaluation": {"seconds": (int, float), "images": (int,)},
    "DiversityAlarm": {"start": (list,), "recent": (list,), "warned": (bool,)},
}
"""What our callbacks keep: numbers, and lists of numbers."""
IDENTITY = re.compile(r".+-s-?\d+")
PROGRESS = ("loops", "fit_loop", "epoch_loop.batch_progress", "total", "completed")
Shape = tuple[int, ...]


def check_content(content: Mapping[str, Any], path: Path) -> None:
    """Refuses a checkpoint with a part that is missing, empty, of the wrong type, or not finite.

    Raises:
        UserError: the message names the part, and another checkpoint if there is one beside it.
    """
    try:
        wrong = next(_faults(content), None)
    except Exception as error:  # whatever a hand-made tensor or dictionary may raise
        wrong = first_line(error)
    if wrong:
        raise damaged(path, wrong)


def damaged(path: Path, wrong: str) -> UserError:
    """The one line for a checkpoint whose inside is wrong."""
    others = sorted(file.name for file in path.parent.glob("*.ckpt") if file.name != path.name)
    other = (
        f"give another one, e.g. ckpt_path={path.with_name(others[-1])}" if others else "there is no other beside it"
    )
    return UserError(f"ckpt_path={path} is damaged: {wrong}; {other}")


@dataclass(frozen=True)
class RestoredShapes:
    """Shapes of what a resume restores, without the values.

    Attributes:
        weights: by name.
        kept: part -> the same of the weights beside the trained ones that are there, see `KEPT_WEIGHTS`.
        moments: of each trained parameter, in the optimizer's order: the shapes of its non-scalar state.
    """

    weights: dict[str, Shape]
    kept: dict[str, dict[str, Shape]]
    moments: list[set[Shape]]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "RestoredShapes":
        """Those of a checkpoint that `check_content` took."""
        optimizer = content["optimizer_states"][0]
        kept = {part: content[part] for part in KEPT_WEIGHTS if content.get(part) is not None}
        ids = [number for group in optimizer["param_groups"] for number in group["params"]]
        states = [without_scales(optimizer["state"].get(number, {})).values() for number in ids]
        return cls(
            _shapes(content["state_dict"]),
            {part: _shapes(weights) for part, weights in kept.items()},
            [{tuple(value.shape) for value in state if isinstance(value, Tensor) and value.ndim} for state in states],
        )

    def refuse_others(self, module: L.LightningModule, path: Path) -> None:
        """A checkpoint must hold what this module trains, no more and no less: the rest would go on as it is.

        Raises:
            UserError: names or shapes differ.
        """
        trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
        buffers = dict(module.named_buffers(recurse=False))
        _refuse_difference(path, "state_dict", self.weights, _shapes(trained | buffers))
        for part in KEPT_WEIGHTS:
            if getattr(module, part) is not None:
                _refuse_difference(path, part, self.kept.get(part, {}), _shapes(getattr(module, part).average))
        own = [tuple(parameter.shape) for _, parameter in module.policy.trainable_parameters()]
        fits = len(own) == len(self.moments)
        if not fits or any(theirs - {ours} for ours, theirs in zip(own, self.moments, strict=True)):
            raise damaged(path, "its optimizer_states are not those of the trained parameters")


def optimizer_entries(content: Mapping[str, Any]) -> int:
    """Parameters that have optimizer state; none as long as no image gave a gradient."""
    return sum(len(state["state"]) for state in content["optimizer_states"])


def raised_while_restoring(error: BaseException) -> bool:
    """Whether Lightning was putting a checkpoint's parts in their places."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(
        frame.filename.endswith("checkpoint_connector.py") and ("restore" in frame.name or frame.name == "resume_start")
        for frame in frames
    )


def _faults(content: Mapping[str, Any]) -> Iterator[str]:
    for part, kind in PARTS.items():
        if not isinstance(content.get(part, ...), kind):
            yield f"its {part} is " + ("missing" if part not in content else type(content[part]).__name__)
    yield from _mark_faults(content)
    iteration = content["PromptDataModule"].get("iteration")
    if type(iteration) is not int or iteration < 0:
        yield f"its iteration is {iteration!r}"
    if type(_at(content, PROGRESS)) is not int:
        yield "its loops do not say how far the run was"
    yield from _callback_faults(content["callbacks"])
    weights = content["state_dict"]
    yield from _tensor_faults("state_dict", {name: weights[name] for name in weights if name not in MEASURED})
    for part in KEPT_WEIGHTS:
        yield from _kept_faults(part, content.get(part))
    yield from _optimizer_faults(content, iteration)


def _kept_faults(part: str, kept: Any) -> Iterator[str]:
    """What is wrong with weights beside the trained ones."""
    if kept is None:
        return
    yield from _tensor_faults(part, {name: kept[name] for name in kept if name != "num_updates"})
    if type(kept.get("num_updates")) is not int or kept["num_updates"] < 0:
        yield f"its {part} does not say how often it was updated"


def _callback_faults(callbacks: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the counts of our callbacks; others may keep what they like."""
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


def _group_faults(group: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the settings of a group of parameters, as AdamW has them."""
    if not isinstance(group.get("params"), list):
        yield "its optimizer_states have a group without parameters"
    for name, count in {"lr": 1, "betas": 2, "eps": 1, "weight_decay": 1}.items():
        value = group.get(name)
        numbers = value if isinstance(value, tuple | list) else [value]
        if len(numbers) != count or any(_kind(number) != "number" or isinstance(number, bool) for number in numbers):
            yield f"the {name} in its optimizer_states is " + ("missing" if value is None else repr(value))


def _kinds(state: Mapping[str, Any]) -> dict[str, str]:
    """What an optimizer keeps of a parameter: moments of its shape, single numbers, and what is neither."""
    return {name: _kind(value) for name, value in state.items()}


def _kind(value: Any) -> str:
    if isinstance(value, Tensor) and value.ndim:
        return "moment"
    return "number" if isinstance(value, Tensor | float | int) else type(value).__name__


_OPTIMIZER = {"state": dict, "param_groups": list}


def _numbers(state: Any) -> Iterator[Tensor | float]:
    """Tensors and floats in nested dictionaries and sequences."""
    if isinstance(state, Tensor | float):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _numbers(value)


def _shapes(values: Mapping[str, Any]) -> dict[str, Shape]:
    return {name: tuple(value.shape) for name, value in values.items() if isinstance(value, Tensor)}


def _refuse_difference(path: Path, part: str, theirs: dict[str, Shape], ours: dict[str, Shape]) -> None:
    difference = shape_difference(theirs, ours)
    if difference:
        name, there, here = difference
        raise damaged(path, f"{name} in its {part} is {there}, and {here} in this run")


def shape_difference(theirs: Mapping[str, Shape], ours: Mapping[str, Shape]) -> tuple[str, str, str] | None:
    """The first name, in order, whose shapes differ, with both in words; None if all are equal."""
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            return name, _described(theirs.get(name)), _described(ours.get(name))
    return None


def _described(shape: Shape | None) -> str:
    return "not there" if shape is None else " x ".join(map(str, shape)) or "one number"
