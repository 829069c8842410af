"""docs/troubleshooting.md quotes messages that the package has, and keys that it has."""

import ast
import errno
import os
import re
from pathlib import Path

import pytest

from drift_pl.config.schema import Config
from drift_pl.core.files import REMEDIES

ROOT = Path(__file__).parents[2]
ROWS = [
    line.split("|")[1:3]
    for line in (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| message")
]
QUOTES = [quote for symptom, _ in ROWS for quote in re.findall(r"`([^`]+)`", symptom) if " " in quote.strip()]
SECTIONS = ("policy", "sampler", "objective", "incentive", "trainer", "evaluation")


def messages() -> list[str]:
    """All texts of the package; `\\0` where one has a value."""
    texts = [os.strerror(number) for number in REMEDIES]
    for file in sorted((ROOT / "drift_pl").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return messages()


def test_there_are_as_many_symptoms_as_the_page_is_for() -> None:
    assert 20 <= len(ROWS) <= 35
    assert len(QUOTES) >= 20
    assert os.strerror(errno.ENOSPC) in QUOTES


@pytest.mark.parametrize("quote", QUOTES)
def test_a_quoted_message_is_one_of_the_package(quote: str, texts: list[str]) -> None:
    for piece in quote.split("…"):
        assert any(piece.strip() in text for text in texts), piece


@pytest.mark.parametrize(
    "key",
    sorted({key for row in ROWS for key in re.findall(rf"((?:{'|'.join(SECTIONS)})\.[a-z_.]+[a-z])", "|".join(row))}),
)
def test_a_key_is_one_of_the_config(key: str) -> None:
    assert Config.find_key(key) is not None
