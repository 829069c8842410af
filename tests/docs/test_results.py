"""The results that are kept are of the project, not of the machine that made them."""

import re
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("*.json")), ids=lambda path: str(path.relative_to(RESULTS)))
def test_no_path_of_a_machine(path: Path) -> None:
    assert re.findall(r'"(?:/|[A-Za-z]:\\)[^"]*"', path.read_text(encoding="utf-8"))[:3] == []
