"""Gains, levels and names as docs/benchmark.md shows them."""

from benchmark_table import JOINT
from levels import LevelGain

from drift_pl.functional.intervals import Interval
from drift_pl.reports.markdown import code


def called(other: str) -> str:
    """A method, or a joint front, as a heading names it."""
    members = [code(name) for name in other.split(JOINT)]
    return members[0] if len(members) == 1 else f"the joint front of {', '.join(members[:-1])} and {members[-1]}"


def gain_text(interval: Interval | None) -> str:
    """`+4.7 % [+1.6, +7.9]`; without brackets if there is no interval."""
    return (
        "none in common"
        if interval is None
        else _with_ends(interval.mean, interval.low, interval.high, 100, ".1f", " %")
    )


def level_text(gain: LevelGain) -> str:
    """As `gain_text`, where an end that is not reached says so."""
    if gain.value is None:
        return gain.reason or "not reached"
    text = _with_ends(gain.value, gain.low, gain.high, 100, ".1f", " %")
    unreached = gain.low is None or gain.high is None
    return f"{text} [{gain.reason}]" if unreached and (gain.reason or "").startswith("not reached") else text


def difference_text(interval: Interval | None) -> str:
    return "" if interval is None else _with_ends(interval.mean, interval.low, interval.high, 1, ".4f")


def _with_ends(value: float, low: float | None, high: float | None, scale: int, digits: str, unit: str = "") -> str:
    """A value with its interval in brackets, if it has both ends."""
    text = f"{scale * value:+{digits}}{unit}"
    return text if low is None or high is None else f"{text} [{scale * low:+{digits}}, {scale * high:+{digits}}]"
