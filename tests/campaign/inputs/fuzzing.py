"""How a fuzz runs: a bounded number of examples in the ordinary suite, or for a bounded time; what a command may do."""

import itertools
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaign.inputs.rows import Content, make
from campaign.inputs.stage import Stage, in_folder
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

SECONDS = "DRIFT_FUZZ_SECONDS"
"""Environment variable: seconds for each target; without it a target has a fixed set of examples."""
ROUND = 200
"""Examples of one seed in the long form."""
PLAIN = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def fuzz(examples: int, body: Callable[[Any], Any], strategy: st.SearchStrategy) -> None:
    """Calls `body` with examples of a strategy; prints how many there were.

    Args:
        examples: in the short form, always the same ones.
    """
    count = itertools.count()

    def counted(drawn: Any) -> None:
        next(count)
        body(drawn)

    budget = float(os.environ.get(SECONDS, "0"))
    if not budget:
        settings(max_examples=examples, derandomize=True, **PLAIN)(given(strategy)(counted))()
        return
    end = time.monotonic() + budget
    for number in itertools.count():
        if time.monotonic() > end:
            break
        seed(number)(settings(max_examples=ROUND, **PLAIN)(given(strategy)(_until(end, counted))))()
    print(f"{next(count)} examples in {budget:g} s")


def _until(end: float, body: Callable[[Any], None]) -> Callable[[Any], None]:
    def call(drawn: Any) -> None:
        if time.monotonic() < end:
            body(drawn)

    return call


class Trial:
    """A command on files that were made for it, in a folder of its own.

    Raises:
        AssertionError: it ended with another status than 0 or 2, said something else than one line of error, or was
            refused and left something behind.
    """

    def __init__(self, stage: Stage, here: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.stage, self.here, self.capture = stage, here, capture

    def __call__(self, line: str, more: list[str] | None = None, files: dict[str, Content] | None = None) -> int:
        shutil.rmtree(self.here, ignore_errors=True)
        self.here.mkdir()
        make(self.here, files or {}, self.stage.sources)
        command, argv = self.stage.argv(line)
        with in_folder(self.here, {}):
            ended = self.stage.call(command, [*argv, *(more or [])], self.here, self.capture)
        assert ended.status in (0, 2), ended
        assert "Traceback" not in ended.err, ended.err
        if ended.status == 2:
            *warnings, error = ended.err.splitlines() or [""]
            assert error.startswith("error: "), ended.err
            assert all(line.startswith("warning: ") for line in warnings), ended.err
            assert ended.changes == {}, ended
        assert not [path for path in self.here.rglob("*") if path.name.endswith(".tmp")]
        return ended.status


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400]),
    st.floats(),
    st.sampled_from([1e308, -1e308, 5e-324]),
    st.text(max_size=8),
    st.sampled_from(["", "nan", "null", "..", "/etc/passwd", "../../x", "a\nb", "${seed}", "${oc.env:HOME}"]),
)
"""Values that nobody expects."""
NESTED = st.recursive(
    ODD, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3)
)


def places(node: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested dictionaries and lists."""
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list | tuple) else ()
    below = [place for key in keys for place in places(node[key], (*above, key))]
    return [*([above] if above else []), *below]


def changed(node: Any, place: tuple[Any, ...], how: str, value: Any) -> None:
    """Changes nested dictionaries and lists in place: put, drop, or rename."""
    for key in place[:-1]:
        node = node[key]
    if isinstance(node, tuple):
        return
    if how == "put":
        node[place[-1]] = value
    elif how == "drop":
        del node[place[-1]]
    elif isinstance(node, dict):
        node[str(value)] = node.pop(place[-1])


def changes(node: Any) -> st.SearchStrategy[list[tuple[tuple[Any, ...], str, Any]]]:
    """One to three changes at places of a content."""
    one = st.tuples(st.sampled_from(places(node)), st.sampled_from(["put", "put", "drop", "rename"]), NESTED)
    return st.lists(one, min_size=1, max_size=3)


def apply(node: Any, wanted: list[tuple[tuple[Any, ...], str, Any]]) -> Any:
    """A content after changes; those whose place is gone by then are left out."""
    for place, how, value in wanted:
        try:
            changed(node, place, how, value)
        except (KeyError, IndexError, TypeError):
            continue
    return node


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """Bytes of a file with some cut, overwritten, doubled or put in."""
    place, few = st.integers(0, len(data)), st.binary(min_size=1, max_size=8)
    return st.one_of(
        place.map(lambda end: data[:end]),
        st.tuples(place, few).map(lambda p: data[: p[0]] + p[1] + data[p[0] + len(p[1]) :]),
        st.tuples(place, few).map(lambda p: data[: p[0]] + p[1] + data[p[0] :]),
        st.tuples(place, place).map(lambda p: data[: min(p)] + data[max(p) :]),
        st.tuples(place, place).map(lambda p: data[: max(p)] + data[min(p) :]),
    )
