"""The table of bugs is made from the tests' docstrings, and none gets lost."""

import re
from pathlib import Path

from bug_table import Catch, catches_in, collect, docstrings, table

ROOT = Path(__file__).parents[2]
LEAST = 472
"""Bugs that the tests were seen to catch when this was written."""


def test_statements_are_read_from_docstrings() -> None:
    text = """Says what it tests.

        Catches in functional/losses.py: no gradient; a sign
            that is wrong.
        Catches in core/rng.py: Python's own hash.

        Catches: what peers shipped.
        """
    assert list(catches_in(text, "a::b")) == [
        Catch("functional/losses.py", ("no gradient", "a sign that is wrong"), "a::b"),
        Catch("core/rng.py", ("Python's own hash",), "a::b"),
        Catch("", ("what peers shipped",), "a::b"),
    ]
    assert list(catches_in("Catches its own errors.", "a::b")) == []


def test_every_statement_is_read_and_none_is_lost() -> None:
    catches = collect()
    written = sum(len(re.findall(r"^\s*Catches\b[^:\n]*:", text, re.MULTILINE)) for _, text in docstrings())
    assert len(catches) == written
    assert sum(len(catch.bugs) for catch in catches) >= LEAST


def test_what_the_bugs_were_put_into_is_there() -> None:
    homes = {catch.where for catch in collect() if catch.where}
    assert {home for home in homes if not (ROOT / "drift_pl" / home).exists() and not (ROOT / home).exists()} == set()


def test_the_table_has_a_row_per_test_and_file() -> None:
    catches = collect()
    for room in {catch.room for catch in catches}:
        section = re.search(rf"^## {room}\n\n(.*?)(?=\n\n|\Z)", table(catches), re.MULTILINE | re.DOTALL)
        assert section
        assert len(section[1].splitlines()) == 2 + sum(catch.room == room for catch in catches)
