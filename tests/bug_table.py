"""Prints what each test was seen to catch: `python tests/bug_table.py`, or `python tests/bug_table.py ROOM`.

A test says it in its docstring, in a paragraph that begins with `Catches` and is read here:

    Catches in functional/losses.py: KL without gradient; KL divided by std instead of its square.
    Catches: a bug that peers shipped.

A module's docstring says it of its tests together.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
FIELD = "the field's usual bugs"
STATEMENT = re.compile(r"Catches(?: in (?P<where>[\w/.]+))?: (?P<bugs>.+)", re.DOTALL)


@dataclass(frozen=True)
class Catch:
    """Bugs that one test was seen to catch.

    Attributes:
        where: file or folder that they were put into; empty for those that other projects shipped.
        bugs: put in one at a time.
        test: `FILE::NAME`, or `FILE` for several of its tests.
    """

    where: str
    bugs: tuple[str, ...]
    test: str

    @property
    def room(self) -> str:
        return self.where.partition("/")[0] or FIELD


def catches_in(docstring: str, test: str) -> Iterator[Catch]:
    """What a docstring says that its test catches."""
    for paragraph in re.split(r"\n\s*\n", docstring):
        for statement in re.split(r"\n\s*(?=Catches\b)", paragraph.strip()):
            if match := STATEMENT.fullmatch(" ".join(statement.split())):
                bugs = match["bugs"].removesuffix(".").split("; ")
                yield Catch(match["where"] or "", tuple(bugs), test)


def docstrings(folder: Path = TESTS) -> Iterator[tuple[str, str]]:
    """(test, docstring) of all tests and of their files."""
    for path in sorted(folder.rglob("test_*.py")):
        name, tree = str(path.relative_to(folder)), ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield f"{name}::{node.name}" if isinstance(node, ast.FunctionDef) else name, text


def collect(folder: Path = TESTS) -> list[Catch]:
    """Everything that the tests of a folder say."""
    return [catch for test, text in docstrings(folder) for catch in catches_in(text, test)]


def table(catches: list[Catch]) -> str:
    """As markdown, a table per room."""
    lines: list[str] = []
    for room in sorted({catch.room for catch in catches}, key=lambda room: (room == FIELD, room)):
        lines += ["", f"## {room}", "", "| in | bugs, one at a time | test |", "|---|---|---|"]
        of_room = sorted((catch for catch in catches if catch.room == room), key=lambda catch: catch.where)
        lines += [f"| {catch.where} | {'; '.join(catch.bugs)} | `{catch.test}` |" for catch in of_room]
    return "\n".join(lines[1:])


if __name__ == "__main__":
    print(table([catch for catch in collect() if sys.argv[1:] in ([], [catch.room])]))
