"""The room of a world in docs/benchmark.md: the model before it was loosened, and what perfect methods would keep.

`room_of_world.py` makes the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from drift_pl.core.errors import UserError
from drift_pl.core.json_files import read_json
from drift_pl.reports.markdown import code, row

Room = Mapping[str, Any]
KINDS = {
    "kl": "a perfect KL",
    "levers": "and shaping by the levers' encoders",
    "evaluation": "and shaping by the evaluation encoder",
}
HEAD = ["method", "reward", "as defined", "over equal prompts", *KINDS.values(), "on-prompt share of a perfect KL"]


def room_file(results: Path, world: str) -> Path:
    return results / f"room-{world}.json"


def read_room(results: Path, world: str) -> Room | None:
    """None where it has not been measured.

    Raises:
        UserError: the file is damaged.
    """
    path = room_file(results, world)
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        fronts = {name: np.array(content["fronts"][name], dtype=np.float64) for name in KINDS}
        if any(front.ndim != 2 or front.shape[1] != 2 or not np.isfinite(front).all() for front in fronts.values()):
            raise ValueError("a front is no list of pairs of numbers")
        shares = np.array(content.get("on_prompt_of_kl", [[0.0, 0.0]]), dtype=np.float64)
        if shares.ndim != 2 or shares.shape[1] != 2 or not np.isfinite(shares).all():
            raise ValueError("on_prompt_of_kl is no list of pairs of numbers")
        numbers = [float(content["base"][content["diversity"]]), *map(float, content["before"].values())]
        if not np.isfinite(numbers).all():
            raise ValueError("a number is not finite")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): make it again with room_of_world.py {world}") from error
    room: Room = content
    return room


def kept_by(room: Room, kind: str, reward: float) -> float | None:
    """The share of the base model's diversity that a perfect method keeps at a reward; None beyond its front."""
    diversity = _at(room["fronts"][kind], reward)
    return None if diversity is None else diversity / float(room["base"][room["diversity"]])


def on_prompt_at(room: Room, reward: float) -> float | None:
    """The share of on-prompt images of a perfect KL at a reward; None beyond what it reaches, or if not measured."""
    return _at(room["on_prompt_of_kl"], reward) if "on_prompt_of_kl" in room else None


def _at(pairs: Any, reward: float) -> float | None:
    """The value at a reward on the line through pairs of both; None beyond the last."""
    reward_N, value_N = np.array(pairs, dtype=np.float64).T
    return None if reward > reward_N[-1] else float(np.interp(reward, reward_N, value_N))


def room_lines(room: Room, ends: Mapping[str, tuple[float, float, float]]) -> list[str]:
    """What each method keeps of the base model's diversity at its last look, and perfect ones at that reward.

    Args:
        ends: method -> its reward, and the shares that it keeps, as defined and over equal prompts.
    """
    lines = [
        "",
        "Shares of the base model's diversity that are kept at the last look, and those that "
        f"{room['images_per_prompt']} images of the base model per prompt keep when they are reweighted to the same "
        "reward (`room_of_world.py`). How many images are on prompt then stands last:",
        "",
        row(HEAD),
        row(["---"] * len(HEAD)),
    ]
    for method, (reward, *kept) in ends.items():
        shares = [None if np.isnan(share) else share for share in kept]
        shares += [*(kept_by(room, kind, reward) for kind in KINDS), on_prompt_at(room, reward)]
        lines.append(
            row([code(method), f"{reward:.4f}", *("" if each is None else f"{100 * each:.0f} %" for each in shares)])
        )
    return lines
