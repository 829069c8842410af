"""Docstrings of the package begin with a sentence on what a thing is or does; sections such as `Args` follow it."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "drift_pl"
SECTION = re.compile(r"(Args|Arguments|Attributes|Examples?|Notes?|Raises|Returns|Warns|Yields)\s*:")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def without_summary(source: str) -> list[str]:
    """`NAME, line N` of everything whose docstring begins with a section."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
    return [
        f"{getattr(node, 'name', 'module')}, line {getattr(node, 'lineno', 1)}"
        for node in nodes
        if SECTION.match(ast.get_docstring(node) or "")
    ]


def test_docstrings_begin_with_a_summary() -> None:
    """Catches in config/help.py: a function whose docstring is its `Args` alone."""
    files = sorted(PACKAGE.rglob("*.py"))
    found = {str(file.relative_to(PACKAGE)): without_summary(file.read_text(encoding="utf-8")) for file in files}
    assert len(found) > 100
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "text", ["Raises:\n    ValueError: it is none.", "\n    Args:\n        x: it.", "Returns: a number."]
)
@pytest.mark.parametrize("head", ["def f(x):", "async def f(x):", "class f:", "def g():\n  class A:\n   def f(x):"])
def test_a_section_in_place_of_a_summary_is_seen(head: str, text: str) -> None:
    line = 1 + head.count("\n")
    assert without_summary(f'{head}\n    """{text}\n    """\n') == [f"f, line {line}"]
    assert without_summary(f'{head}\n    """Raises what it gets.\n\n    {text.strip()}\n    """\n') == []


def test_a_section_at_the_head_of_a_module_is_seen() -> None:
    assert without_summary('"""Args:\n    x: it.\n"""\n') == ["module, line 1"]
    assert without_summary("x = 1\n") == []
