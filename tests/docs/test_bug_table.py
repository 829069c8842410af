"""The table of bugs names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_every_test_in_the_table_exists() -> None:
    named = set(re.findall(r"\btest_[a-z0-9_]+\b(?!\.py)", (TESTS / "README.md").read_text()))
    written = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    assert named - set(re.findall(r"def (test_\w+)\(", written)) == set()


def test_every_file_in_the_table_exists() -> None:
    files = set(re.findall(r"`?\b([a-z_/]+/test_[a-z0-9_]+\.py)", (TESTS / "README.md").read_text()))
    assert {file for file in files if not (TESTS / file).is_file()} == set()
