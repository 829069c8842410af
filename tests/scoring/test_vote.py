"""People as the reward: scores against sums by hand, votes that outlive the run, and what the page's server refuses."""

import base64
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from drift_pl.core.errors import UserError
from drift_pl.core.registry import create
from drift_pl.scoring.http import HttpJudge
from drift_pl.scoring.rewards import WeightedReward
from drift_pl.scoring.vote import Vote
from drift_pl.scoring.vote_book import Group, VoteBook, mean_scores
from drift_pl.scoring.vote_server import LARGEST_VOTE, VoteServer

PROMPT = '<script>alert("a")</script> & a dog'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VoteServer]:
    server = VoteServer(VoteBook(tmp_path / "votes.jsonl"), wait_s=20.0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(url: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """Status, content and headers of an answer."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
        headers.setdefault("Origin", url.rpartition("/")[0].rpartition("/")[0])
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def people(server: VoteServer, orders: dict[str, list[int]]) -> threading.Thread:
    """Votes on every group that waits, as the page does, until each voter has voted once."""

    def vote() -> None:
        left, deadline = dict(orders), time.monotonic() + 20
        while left and time.monotonic() < deadline:
            for voter in list(left):
                found = json.loads(ask(f"{server.address}next?voter={voter}")[1])
                if found["group"]:
                    ballot = {"group": found["group"], "voter": voter, "order": left.pop(voter)}
                    assert ask(f"{server.address}vote", ballot)[0] == 200
            time.sleep(0.02)

    thread = threading.Thread(target=vote, daemon=True)
    thread.start()
    return thread


def test_scores_are_bordas() -> None:
    """By hand, of four images. Ranked c a: 1, 2/3 and, for what is left, the mean of 1/3 and 0; then d c b a.

    Catches in scoring/vote_book.py: places counted from the end; images left out counted as the worst.
    """
    first, second = [2 / 3, 1 / 6, 1, 1 / 6], [0, 1 / 3, 2 / 3, 1]
    mean = [(one + other) / 2 for one, other in zip(first, second, strict=True)]
    assert mean_scores([[2, 0]], 4, "ranking") == pytest.approx(first)
    assert mean_scores([[2, 0], [3, 2, 1, 0]], 4, "ranking") == pytest.approx(mean)
    assert mean_scores([[2], [2, 0], []], 4, "clicks") == pytest.approx([1 / 3, 0, 2 / 3, 0])


def test_a_reward_waits_for_votes_and_finds_them_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same images asked again, by another object, as a resumed run does: nobody is asked.

    Catches in scoring/vote_book.py: votes kept in memory alone; a key without the images.
    """
    arguments = {"votes": str(tmp_path / "votes.jsonl"), "deadline_s": 20.0}
    reward, images_B3HW = create("reward", "vote", arguments), torch.rand(3, 3, 8, 8)
    voting = people(reward._running(), {"ann": [1, 2, 0]})
    scores_B = WeightedReward("vote", reward)(images_B3HW, [PROMPT] * 3, group_size=3)
    voting.join()
    assert scores_B.tolist() == [0.0, 1.0, 0.5]
    assert "1 group waits for votes at http://127.0.0.1:" in capsys.readouterr().err
    again = Vote(str(tmp_path / "votes.jsonl"), deadline_s=0.01)
    assert WeightedReward("vote", again)(images_B3HW, [PROMPT] * 3, group_size=3).tolist() == [0.0, 1.0, 0.5]
    with pytest.raises(UserError, match="resume the run, with a larger deadline_s"):
        again((images_B3HW + 0.5).clamp(0, 1)[None], [PROMPT])


def test_two_voters_and_a_vote_that_a_kill_cut(tmp_path: Path) -> None:
    """Catches in scoring/vote_book.py: one vote is enough for two voters; a cut line swallows the next vote."""
    path, group = tmp_path / "votes.jsonl", Group("a", (b"1", b"2"))
    done: list[Any] = []
    book = VoteBook(path, voters=2)
    thread = threading.Thread(target=lambda: done.append(book.scores([group], time.monotonic() + 20)))
    thread.start()
    while not book.waiting("ann"):
        time.sleep(0.01)
    book.vote(group.key, "ann", [0])
    assert book.waiting("ann") == []
    assert book.waiting("bob") == [group]
    book.vote(group.key, "bob", [1, 0])
    thread.join()
    assert done == [[[0.5, 0.5]]]
    path.write_bytes(path.read_bytes() + b'{"group": "x", "vo')
    again = VoteBook(path, voters=1)
    again._open[group.key] = group
    again.vote(group.key, "cy", [1])
    assert VoteBook(path, voters=3).scores([group], 0.0) == [[pytest.approx(1 / 3), pytest.approx(2 / 3)]]
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(UserError, match=r"votes.jsonl, line 1: it is no vote"):
        VoteBook(path)


def test_it_is_a_server_of_the_http_contract(server: VoteServer) -> None:
    """Against `http_judge`, whose request holds two prompts of two images."""
    judge = HttpJudge(f"{server.address}score", batch_size=4)

    def one_after_the_other() -> None:
        for order in ([1, 0], [0, 1]):
            people(server, {"ann": order}).join()

    threading.Thread(target=one_after_the_other, daemon=True).start()
    assert judge(torch.rand(4, 3, 8, 8), ["a", "a", "b", "b"]).tolist() == [0.0, 1.0, 1.0, 0.0]


def test_what_the_server_refuses(server: VoteServer) -> None:
    """Catches in scoring/vote_server.py: Host not checked (DNS rebinding); Origin not checked; any token; no bounds."""
    address, root = server.address, server.address.rpartition("/")[0].rpartition("/")[0]
    vote = {"group": "x", "voter": "ann", "order": [0]}
    assert ask(address)[0] == 200
    assert ask(f"{root}/wrong/")[0] == 404
    assert ask(f"{root}/")[0] == 404
    assert ask(address, Host="evil.example")[0] == 403
    assert ask(f"{address}vote", vote, Origin="http://evil.example")[0] == 403
    assert ask(f"{address}vote", vote, Origin="null")[0] == 403
    assert ask(f"{address}vote", vote)[0] == 400  # nobody waits for it
    assert ask(f"{address}vote", b"{")[0] == 400
    assert ask(f"{address}vote", vote, **{"Content-Type": "text/plain"})[0] == 400
    assert ask(f"{address}vote", b" " * (LARGEST_VOTE + 1))[0] == 400
    assert ask(f"{address}vote", {**vote, "voter": "a" * 81})[0] == 400
    assert ask(f"{address}image/x/0")[0] == 404
    assert ask(f"{address}image/../../vote_server.py/0")[0] == 404
    body = {"images": ["not base64!"], "prompts": ["a"]}
    assert ask(f"{address}score", body)[0] == 400


def test_orders_name_images_once(server: VoteServer) -> None:
    group = Group("a", (b"1", b"2"))
    server.book._open[group.key] = group
    for order in ([0, 0], [2], [-1], [], ["0"], [True], "01"):
        ballot = {"group": group.key, "voter": "ann", "order": order}
        assert ask(f"{server.address}vote", ballot)[0] == 400, order
    assert server.book.path.read_text() == ""


def test_prompts_are_data_and_never_markup(server: VoteServer) -> None:
    """The page holds no prompt; what has one is JSON that no browser takes for a page."""
    group = Group(PROMPT, (b"1",))
    server.book._open[group.key] = group
    status, content, headers = ask(f"{server.address}next?voter=ann")
    assert (status, headers["Content-Type"], headers["X-Content-Type-Options"]) == (200, "application/json", "nosniff")
    assert json.loads(content)["prompt"] == PROMPT
    _, page, headers = ask(server.address)
    assert b"alert" not in page
    assert "script-src 'nonce-" in headers["Content-Security-Policy"]
    assert b"innerHTML" not in page


def test_it_listens_on_this_machine_alone(server: VoteServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 20


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"rewards.args.port={port}: the page cannot listen"):
            Vote(str(tmp_path / "votes.jsonl"), port=port)(torch.rand(1, 2, 3, 8, 8), ["a"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"mode": "stars"}, "mode=stars must be ranking or clicks"), ({"port": 70000}, r"port=70000 must lie in")],
)
def test_settings_that_cannot_be_used(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Vote(**arguments)


def test_images_arrive_as_they_were(server: VoteServer) -> None:
    """Base64 in, the same bytes out, while they wait."""
    done: list[Any] = []
    body = {"images": [base64.b64encode(b"png").decode()], "prompts": ["a"]}
    thread = threading.Thread(target=lambda: done.append(ask(f"{server.address}score", body)))
    thread.start()
    while not server.book.waiting("ann"):
        time.sleep(0.01)
    key = server.book.waiting("ann")[0].key
    assert ask(f"{server.address}image/{key}/0")[1] == b"png"
    people(server, {"ann": [0]}).join()
    thread.join()
    assert json.loads(done[0][1])["scores"] == [0.0]  # the only image: no place above another


def test_a_name_is_answered_as_browsers_send_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small letters, and without the port where it is the usual one.

    Catches in scoring/vote_server.py: `name: Machine` that no browser reaches; a page on port 80 that never works.
    """
    server = VoteServer(VoteBook(tmp_path / "votes.jsonl"), names=("Machine",))
    port = server.server_address[1]
    assert f"machine:{port}" in server.hosts
    assert "machine" not in server.hosts
    server.server_close()
    monkeypatch.setattr("drift_pl.scoring.vote_server.HTTP_PORT", port)
    server = VoteServer(VoteBook(tmp_path / "votes.jsonl"), "0.0.0.0", port, names=("Machine",))
    assert {"machine", f"machine:{port}", "127.0.0.1"} <= server.hosts
    assert server.address.startswith(f"http://Machine:{port}/")
    server.server_close()


def test_who_sends_headers_byte_by_byte_holds_no_place(server: VoteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in scoring/vote_server.py: a wait that begins again with each byte."""
    monkeypatch.setattr("drift_pl.scoring.vote_server.PATIENCE_S", 0.5)
    with socket.create_connection(server.server_address) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        begun, cut_off = time.monotonic(), False
        while not cut_off and time.monotonic() < begun + 20:
            try:
                client.sendall(b"A: b\r\n")
                time.sleep(0.05)
            except OSError:
                cut_off = True
        assert cut_off


@pytest.mark.parametrize(
    ("route", "body", "status"),
    [
        ("score", {"prompts": ["a \ud800"], "images": [base64.b64encode(b"1").decode()]}, 400),
        ("vote", {"group": "g", "voter": "ann", "order": [[]]}, 400),
        ("image/g/%C2%B2", None, 404),
    ],
)
def test_every_request_has_an_answer(server: VoteServer, route: str, body: Any, status: int) -> None:
    """Catches in scoring/vote_server.py: a connection that closes, which a run takes for a server to ask again."""
    assert ask(f"{server.address}{route}", body)[0] == status


def test_a_disk_that_is_full_is_told_to_the_voter(server: VoteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in scoring/vote_server.py: a page that goes on as if the vote had been kept."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(server.book, "vote", full)
    status, content, _ = ask(f"{server.address}vote", {"group": "g", "voter": "ann", "order": [0]})
    assert status == 500
    assert b"the vote was not kept: " in content
