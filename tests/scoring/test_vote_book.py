"""The file of the votes: what prompts hold, two modes in one file, and requests for the same images that overlap."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from drift_pl.core.errors import UserError
from drift_pl.scoring.vote_book import Group, VoteBook

PAIR = (b"1", b"2")


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def asked(book: VoteBook, group: Group, seconds: float = 20.0) -> tuple[threading.Thread, list[Any]]:
    """A request for scores, under way, and where its answer appears."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(book.scores([group], time.monotonic() + seconds)))
    thread.start()
    return thread, answers


def given(book: VoteBook, group: Group, order: list[int]) -> list[Any]:
    """The answer to a request on which ann votes."""
    thread, answers = asked(book, group)
    wait_until(lambda: book.waiting("ann"))
    book.vote(group.key, "ann", order)
    thread.join()
    return answers


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\n"])
def test_a_prompt_may_hold_what_splitlines_takes_for_a_line_end(tmp_path: Path, mark: str) -> None:
    """Catches in scoring/vote_book.py: lines of the file cut at U+2028 or U+0085, which JSON does not escape."""
    path, group = tmp_path / "votes.jsonl", Group(f"a dog{mark}and a cat", PAIR)
    assert given(VoteBook(path), group, [1]) == [[[0.0, 1.0]]]
    assert VoteBook(path).scores([group], 0.0) == [[0.0, 1.0]]


def test_lines_that_an_editor_ends_with_a_carriage_return_are_votes(tmp_path: Path) -> None:
    path, group = tmp_path / "votes.jsonl", Group("a dog", PAIR)
    given(VoteBook(path), group, [1])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") * 2)
    assert VoteBook(path).scores([group], 0.0) == [[0.0, 1.0]]


def test_votes_of_the_other_mode_stay_in_the_file_and_do_not_count(tmp_path: Path) -> None:
    """A full ranking taken for clicks would like every image.

    Catches in scoring/vote_book.py: the mode of a line not read; a vote of one mode in place of one of the other.
    """
    path, group = tmp_path / "votes.jsonl", Group("a dog", (b"1", b"2", b"3"))
    assert given(VoteBook(path, "ranking"), group, [2, 0, 1]) == [[[0.5, 0.0, 1.0]]]
    clicks = VoteBook(path, "clicks")
    assert clicks.scores([group], 0.0) is None
    assert given(clicks, group, [1]) == [[[0.0, 1.0, 0.0]]]
    assert [json.loads(line)["mode"] for line in path.read_text().splitlines()] == ["ranking", "clicks"]
    assert VoteBook(path, "ranking").scores([group], 0.0) == [[0.5, 0.0, 1.0]]
    assert VoteBook(path, "clicks").scores([group], 0.0) == [[0.0, 1.0, 0.0]]


def test_a_damaged_line_of_the_other_mode_is_named(tmp_path: Path) -> None:
    """Catches in scoring/vote_book.py: lines of the other mode passed over unread."""
    path = tmp_path / "votes.jsonl"
    path.write_text('{"group": "x", "mode": "clicks"}\n')
    with pytest.raises(UserError, match=r"votes.jsonl, line 1: it is no vote"):
        VoteBook(path, "ranking")


def test_a_group_is_shown_as_long_as_anybody_waits_for_it(tmp_path: Path) -> None:
    """A request is sent again while the first is still under way; then the first one gives up.

    Catches in scoring/vote_book.py: the first of two requests to end hides the group from voters; a group that stays
    after the last.
    """
    book, group = VoteBook(tmp_path / "votes.jsonl"), Group("a dog", PAIR)
    second, answers = asked(book, group)
    wait_until(lambda: book.waiting("ann"))
    assert book.scores([group, group], 0.0) is None
    assert book.waiting("ann") == [group]
    assert book.image(group.key, 1) == b"2"
    book.vote(group.key, "ann", [0])
    second.join()
    assert answers == [[[1.0, 0.0]]]
    assert book.image(group.key, 1) is None
    with pytest.raises(ValueError, match="nobody waits for a vote on this group"):
        book.vote(group.key, "bob", [0])


def test_somebody_must_vote(tmp_path: Path) -> None:
    """Catches in scoring/vote_book.py: no voters, so that a group without votes is complete, and has no scores."""
    with pytest.raises(UserError, match="voters=0: somebody must vote on each group; give 1 or more"):
        VoteBook(tmp_path / "votes.jsonl", voters=0)


@pytest.mark.parametrize(
    "content",
    [
        '{"keep": "me"}',
        "a prompt\nanother",
        "no vote at all",
        '{"group": "g", "voter": "a", "order": [1e999]}\n',
        '{"group": "g", "voter": "a", "order": [0, 0]}\n',
        '{"group": "g", "voter": "a", "order": [-1]}\n',
        '{"group": "g", "voter": "a", "order": [2], "images": 2}\n',
        "[" * 100_000 + "\n",
        "[" * 100_000,
        "7\n",
    ],
)
def test_what_is_no_file_of_votes_is_refused_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    """Catches in scoring/vote_book.py: the last line of another file cut off before anybody has looked at it."""
    path = tmp_path / "file"
    path.write_text(content)
    with pytest.raises(UserError, match=r"line [12]: it is no vote; mend or remove it$"):
        VoteBook(path)
    assert path.read_text() == content


def test_a_vote_whose_line_end_an_editor_has_taken_is_kept(tmp_path: Path) -> None:
    """Catches in scoring/vote_book.py: a whole vote removed as if a kill had cut it."""
    path, group = tmp_path / "votes.jsonl", Group("a dog", PAIR)
    given(VoteBook(path), group, [1])
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip(b"\n"))
    assert VoteBook(path).scores([group], 0.0) == [[0.0, 1.0]]
    assert path.read_bytes() == whole


def test_a_vote_that_the_disk_did_not_take_leaves_nothing_behind(tmp_path: Path) -> None:
    """Catches in scoring/vote_book.py: the next vote is joined to half of this one, and the file cannot be read."""
    path, groups = tmp_path / "votes.jsonl", [Group("a dog", PAIR), Group("a cat", PAIR)]
    given(VoteBook(path), groups[0], [1])
    program = (
        "import resource, signal, sys; from pathlib import Path; from drift_pl.scoring.vote_book import *\n"
        f"book, group = VoteBook(Path({str(path)!r})), Group('a cat', (b'1', b'2'))\n"
        "book._open[group.key] = group\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({path.stat().st_size + 40}, -1))\n"
        "try: book.vote(group.key, 'ann', [0])\n"
        "except OSError: resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1)); book.vote(group.key, 'ann', [0])\n"
        "else: sys.exit('it was kept')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert VoteBook(path).scores(groups, 0.0) == [[0.0, 1.0], [1.0, 0.0]]
