"""What callbacks keep in checkpoints, which are read without running code: numbers, texts, tensors and collections."""

import io
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from drift_pl.core.errors import UserError, named

PLAIN = (type(None), bool, int, float, complex, str, bytes, Tensor, torch.nn.Parameter)
COLLECTIONS = (list, tuple, set, torch.Size)


def refuse_unreadable(name: str, state: Mapping[str, Any]) -> None:
    """Checks before training that a callback's state can be read back without running code, as checkpoints are.

    Args:
        name: of the callback, in the setting that errors name.
        state: its state before training.

    Raises:
        UserError: a checkpoint with it could not be read.
    """
    if kind := unreadable(state):
        raise UserError(
            f"{named()}: the state_dict of {name!r} holds {kind}, with which a checkpoint could not be read: keep "
            "numbers, texts, tensors, and lists and dictionaries of these"
        )


def without_unreadable(states: Mapping[str, Any]) -> dict[str, Any]:
    """The states that can be read again; a run's weights are not lost for what a callback has put into its state."""
    kept = {}
    for key, state in states.items():
        if kind := unreadable(state):
            warnings.warn(
                f"trainer.callbacks: the state_dict of {key} holds {kind}: it is left out of the checkpoint, which "
                "could not be read with it",
                stacklevel=1,
            )
        else:
            kept[key] = state
    return kept


def unreadable(state: Any) -> str:
    """The kind of what makes a state one that `torch.load` refuses with `weights_only`; empty if it can be read."""
    kind = _other_kind(state)
    if not kind:
        return ""
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # of pickling, or of torch's reader
        return kind
    return ""


def _other_kind(value: Any) -> str:
    """The kind of the first part that is not plain; most states have none, and need no trial."""
    kind = type(value)
    if kind in PLAIN:
        return ""
    if kind in (dict, OrderedDict):
        parts = [*value.keys(), *value.values()]
    elif kind in COLLECTIONS:
        parts = [*value]
    else:
        return f"{kind.__module__}.{kind.__qualname__}"
    return next(filter(None, map(_other_kind, parts)), "")
