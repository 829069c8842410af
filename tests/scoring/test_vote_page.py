"""The page on which people vote, in a real browser: a group appears, is ranked by clicks, and the run gets its scores.

python -m pytest -m browser tests/scoring/test_vote_page.py --basetemp=/tmp/pictures    # and a picture of it
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from chromium import Chromium

from drift_pl.scoring.vote import png
from drift_pl.scoring.vote_book import Group, VoteBook
from drift_pl.scoring.vote_server import VoteServer

pytestmark = pytest.mark.browser
PROMPT = '<img src=x onerror="document.title=1"> & a dog'


class Address(str):
    """What `Chromium.open` is given in place of a file."""

    def as_uri(self) -> str:
        return str(self)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    chromium = Chromium(tmp_path / "profile")
    yield chromium
    chromium.close()


def wait_for(browser: Chromium, expression: str) -> Any:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = browser.ask(expression)
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(expression)


def test_a_group_is_ranked_by_clicks(browser: Chromium, tmp_path: Path) -> None:
    """Catches in scoring/vote.html: a prompt as markup; images of another group; an order that is not sent.

    Catches in scoring/vote.html: a page that waits for ever at an address of an earlier run.

    Catches in scoring/vote_server.py: a policy that forbids the page its own script or images.
    """
    server = VoteServer(VoteBook(tmp_path / "votes.jsonl"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    colours = torch.tensor([[220, 60, 60], [60, 160, 60], [60, 60, 220]], dtype=torch.uint8)
    images = tuple(png(colour[:, None, None].expand(3, 32, 32).contiguous()) for colour in colours)
    group, done = Group(PROMPT, images), list[Any]()
    waiting = threading.Thread(target=lambda: done.append(server.book.scores([group], time.monotonic() + 60)))
    waiting.start()
    browser.open(Address(server.address), 900)  # type: ignore[arg-type]
    browser.ask("document.getElementById('name').value = 'Ann'")
    browser.ask("document.querySelector('#start button').click()")
    wait_for(browser, "[...document.images].length === 3 && [...document.images].every((i) => i.naturalWidth === 32)")
    assert browser.ask("document.getElementById('prompt').textContent") == PROMPT
    assert browser.ask("document.title") == "Vote"
    for place in (2, 0):
        browser.ask(f"document.querySelectorAll('#images button')[{place}].click()")
    assert browser.ask("[...document.querySelectorAll('#images b')].map((b) => b.textContent)") == ["2", "", "1"]
    browser.picture(tmp_path / "vote.png")
    browser.ask("document.getElementById('done').click()")
    waiting.join(30)
    assert done == [[[0.5, 0.0, 1.0]]]
    wait_for(browser, "document.getElementById('what').textContent.startsWith('Nothing waits')")
    assert all(url.startswith(("http://127.0.0.1:", "about:")) for url in browser.requested)
    server.token = "another"  # as of a run that was started again at the same port
    wait_for(browser, "document.getElementById('what').textContent.startsWith('This address is no longer in use')")
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("width", "columns"), [(1280, 5), (390, 2)])
def test_a_group_is_seen_at_once(browser: Chromium, tmp_path: Path, width: int, columns: int) -> None:
    """Images are side by side on a phone as well, and the buttons are in sight without scrolling.

    Catches in scoring/vote.html: one column on a phone; buttons below the last image.
    """
    server = VoteServer(VoteBook(tmp_path / "votes.jsonl"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pictures = torch.arange(16, dtype=torch.uint8)[:, None, None, None].expand(16, 3, 300, 300).contiguous() * 15
    group = Group("a dog " * 30, tuple(map(png, pictures)))
    waiting = threading.Thread(target=lambda: server.book.scores([group], time.monotonic() + 60), daemon=True)
    waiting.start()
    browser.open(Address(server.address), width)  # type: ignore[arg-type]
    browser.ask("document.getElementById('name').value = 'Ann'")
    browser.ask("document.querySelector('#start button').click()")
    wait_for(browser, "[...document.images].length === 16 && [...document.images].every((i) => i.naturalWidth === 300)")
    tops = browser.ask("[...document.querySelectorAll('#images button')].map((b) => b.getBoundingClientRect().top)")
    assert tops.count(tops[0]) == columns
    assert browser.ask("document.getElementById('done').getBoundingClientRect().bottom <= innerHeight")
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    assert browser.ask("[...document.images].some((i) => i.classList.contains('tiny'))") is False
    server.book.vote(group.key, "Ann", [0])
    waiting.join(30)
    server.shutdown()
    server.server_close()
