"""JSON that every reader takes."""

import json
from pathlib import Path

import pytest

from drift_pl.core.files import write_json


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    nan, infinity = float("nan"), float("inf")
    write_json(tmp_path / "a.json", {"a": [1.5, nan, {"b": -infinity}], "c": (infinity, 2), "d": "NaN", "e": True})
    text = (tmp_path / "a.json").read_text()
    content = json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
    assert content == {"a": [1.5, None, {"b": None}], "c": [None, 2], "d": "NaN", "e": True}
