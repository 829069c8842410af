"""Times that can be compared on a shared machine: CPU seconds, contenders in turn, medians of ratios, one JSON file.

Every benchmark of this folder has the same command line: `python benchmarks/NAME.py [out=FILE] [repeats=5]` and what
it names itself.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FEWEST = 5
"""Repetitions of a figure that is published."""


def seconds_of(work: Callable[[], object]) -> float:
    """CPU seconds of this thread: on a shared machine the wall time depends on the neighbours.

    With one torch thread all work of a step, the backward pass included, happens in the calling thread.
    """
    began = time.thread_time()
    work()
    return time.thread_time() - began


def in_turn(contenders: Mapping[str, Callable[[], float]], repeats: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each contender, one of each per round, so that a slow minute of the machine hits all alike.

    Args:
        contenders: name -> does its work once and returns its seconds. The order alternates from round to round.
        repeats: rounds that count, at least 1.
        warm_up: rounds before them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(warm_up + repeats):
        for name in names if number % 2 == 0 else reversed(names):
            value = contenders[name]()
            print(f"round {number - warm_up + 1} of {repeats}: {name} {value:.3f} s", file=sys.stderr, flush=True)
            if number >= warm_up:
                seconds[name].append(value)
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Median, smallest and largest of the ratios of the same round, `ours` / `theirs`."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {
        "median": statistics.median(ratios),
        "smallest": min(ratios),
        "largest": max(ratios),
        "repeats": len(ratios),
    }


def options_of(argv: Sequence[str], **defaults: Any) -> dict[str, Any]:
    """`name=value` arguments over their defaults, in the type of the default; `out=` and `repeats=` are always known.

    Raises:
        SystemExit: an argument is unknown or has no value; status 2.
    """
    options: dict[str, Any] = {"out": "", "repeats": FEWEST, **defaults}
    for item in argv:
        name, equals, value = item.partition("=")
        if not equals or name not in options:
            print(f"error: {item!r} is no option here: use {'=, '.join(options)}=", file=sys.stderr)
            raise SystemExit(2)
        options[name] = type(options[name])(value)
    return options


def save(result: Mapping[str, Any], out: str) -> None:
    """Writes the result as JSON where `out` says, if anywhere; parts of the file that it does not name stay."""
    if out:
        before = json.loads(Path(out).read_text(encoding="utf-8")) if Path(out).exists() else {}
        Path(out).write_text(json.dumps({**before, **result}, indent=2) + "\n", encoding="utf-8")


def finish(result: Mapping[str, Any], lines: Sequence[str], out: str) -> None:
    """Prints the table, and saves the result."""
    print("\n".join(lines))
    save(result, out)


def rounded(values: Any, digits: int = 4) -> Any:
    """The same with floats cut to `digits` significant digits: the rest is noise of the machine."""
    if isinstance(values, float):
        return float(f"{values:.{digits}g}")
    if isinstance(values, Mapping):
        return {name: rounded(value, digits) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [rounded(value, digits) for value in values]
    return values
