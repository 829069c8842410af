"""The results that are kept: small, of the project and not of the machine that made them, and where the docs say."""

import json
import lzma
import re
import subprocess
from pathlib import Path

import pytest

from drift_pl.evaluation.bundle import SUFFIX

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "results"
MAX_FILES, MAX_BYTES = 90, 5_900_000
LINKS = {
    (page.name, link)
    for page in DOCS.glob("*.md")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
}


def machine_paths(text: str) -> list[str]:
    return re.findall(r'"(?:/|[A-Za-z]:\\)[^"]*"', text)


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("*.json")), ids=lambda path: str(path.relative_to(RESULTS)))
def test_no_path_of_a_machine(path: Path) -> None:
    assert machine_paths(path.read_text(encoding="utf-8"))[:3] == []


@pytest.mark.parametrize("path", sorted(RESULTS.rglob(f"*{SUFFIX}")), ids=lambda path: str(path.relative_to(RESULTS)))
def test_no_path_of_a_machine_in_a_file_of_many(path: Path) -> None:
    text = lzma.decompress(path.read_bytes()).decode()
    assert '"evaluation"' in text
    assert machine_paths(text)[:3] == []


def test_a_path_of_a_machine_is_seen() -> None:
    assert machine_paths(json.dumps({"a": "/home/me/run", "b": "C:\\run", "c": "docs/run"})) == [
        '"/home/me/run"',
        '"C:\\\\run"',
    ]


def test_results_stay_few_and_small() -> None:
    listed = subprocess.run(["git", "ls-files", "-z", RESULTS], cwd=RESULTS, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: files that are made again cannot be told from those that are kept")
    files = [RESULTS / name for name in listed.stdout.split("\0") if name]
    assert 0 < len(files) <= MAX_FILES
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES


@pytest.mark.parametrize(("page", "link"), sorted(LINKS), ids=" -> ".join)
def test_links_of_the_docs_lead_somewhere(page: str, link: str) -> None:
    assert (DOCS / link).exists(), f"docs/{page}"
