"""Checkpoints whose inside is spoilt, or is another run's: one line, before anything is restored."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.core.foreign import described, is_of_foreign_code
from drift_pl.core.locate import first_line
from drift_pl.training.checkpoint_faults import KEPT_WEIGHTS, faults
from drift_pl.training.eight_bit import without_scales

Shape = tuple[int, ...]


def check_content(content: Mapping[str, Any], path: Path) -> None:
    """Refuses a checkpoint with a part that is missing, empty, of the wrong type, or not finite.

    Raises:
        UserError: the message names the part, and another checkpoint if there is one beside it.
    """
    try:
        wrong = next(faults(content), None)
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


def not_restored(path: Path, error: BaseException) -> UserError:
    """The one line for a checkpoint that a run could not be restored from: it is damaged, or a callback refuses it."""
    if is_of_foreign_code(error):
        return UserError(f"ckpt_path={path}: a callback of the run cannot take up its state: {described(error)}")
    return damaged(path, f"it cannot be restored ({first_line(error)})")


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


def raised_while_restoring(error: BaseException) -> bool:
    """Whether Lightning was putting a checkpoint's parts in their places."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(
        frame.filename.endswith("checkpoint_connector.py") and ("restore" in frame.name or frame.name == "resume_start")
        for frame in frames
    )


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
