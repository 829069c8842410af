"""summary.json of a finished run, checked: others may have made or cut it. No torch."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drift_pl.config.own_run import CONFIG
from drift_pl.config.run_folder import SUMMARY, resume_command
from drift_pl.core.errors import UserError
from drift_pl.core.json_files import read_json
from drift_pl.evaluation.record import EVALUATE

KINDS: dict[str, type] = {
    **{"experiment": str, "seed": int, "encoder": str, "test_prompts": int, "images_per_prompt": int, "images": int},
    **{"base": dict, "tuned": dict},
}
"""What reports read of it."""
LONGEST = 1e12
"""Seconds; more are damage."""


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run; numbers that are not finite, as version 0.1 wrote them, are None.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = folder / SUMMARY
    if not file.is_file():
        raise UserError(f"{folder} has no {SUMMARY}{_remedy(folder)}")
    try:
        summary = read_json(file)
    except ValueError as error:
        raise _damaged(folder, str(error)) from error
    wrong = next(_faults(summary), None)
    if wrong:
        raise _damaged(folder, wrong)
    for which in ("base", "tuned"):
        values = summary[which]
        summary[which] = {name: value if _is_finite(value) else None for name, value in values.items()}
    return summary


def _remedy(folder: Path) -> str:
    """What to do where a summary is missing: the run is not finished, or it is no run."""
    if (folder / CONFIG).is_file():
        return f": finish it with {resume_command(folder)}"
    return " and is no run: leave it out, or give the folders of runs, e.g. runs/shapes_*"


def _damaged(folder: Path, wrong: str) -> UserError:
    return UserError(
        f"{folder / SUMMARY} is damaged: {wrong}; leave the run out, or compare evaluations: {EVALUATE}{folder}, then "
        "python -m drift_pl.pareto"
    )


def _faults(summary: Any) -> Iterator[str]:
    if not isinstance(summary, dict):
        yield f"it is {type(summary).__name__}"
    for key, kind in KINDS.items():
        if key not in summary:
            yield f"{key} is missing"
        if type(summary[key]) is not kind:
            yield f"{key} is {type(summary[key]).__name__}"
    seconds = summary.get("seconds")
    if seconds is not None and (type(seconds) not in (int, float) or not 0 <= seconds < LONGEST):
        yield f"seconds is {seconds!r}"
    for which in ("base", "tuned"):
        if "reward" not in summary[which]:
            yield f"{which}.reward is missing"
        for name, value in summary[which].items():
            if not isinstance(value, int | float | None) or (isinstance(value, int) and abs(value) >= 2**63):
                yield f"{which}.{name} is no number"


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
