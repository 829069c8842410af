"""The documentation's site builds strictly, and asks nobody else for anything."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Elements -> the attribute that a browser fetches without a click."""


class Fetched(HTMLParser):
    """What a browser loads by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag in LOADED and attributes.get("rel") not in ("next", "prev", "canonical"):
            self.addresses.append(attributes.get(LOADED[tag]) or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def fetched(text: str) -> list[str]:
    parser = Fetched()
    parser.feed(text)
    return parser.addresses


def test_every_page_is_built(site: Path) -> None:
    """Catches in mkdocs.yml: a page of docs/ that is not in the navigation. A broken link or anchor ends the build."""
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {path.stem for path in site.glob("*.html")}


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Catches in mkdocs.yml: fonts of another host; the plug-in `offline`, which loads a script."""
    outside = {
        (page.name, address)
        for page in site.rglob("*.html")
        for address in fetched(page.read_text(encoding="utf-8"))
        if re.match(r"(https?:)?//", address)
    }
    assert outside == set()
    sheets = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"@import[^;]*|url\(['\"]?(?:https?:)?//[^)]*", sheets) == []


def test_a_fetched_address_is_seen() -> None:
    assert fetched('<link rel="stylesheet" href="//a/b.css"><script src="c.js"></script><a href="https://d"></a>') == [
        "//a/b.css",
        "c.js",
    ]


def test_links_to_sources_are_plain_text_without_a_repository(site: Path) -> None:
    """Catches in docs/make/source_links.py: a link out of the site stays as it was."""
    page = (site / "paper.html").read_text(encoding="utf-8")
    assert "incentive/selection.py" in page
    assert 'href="../drift_pl' not in page
