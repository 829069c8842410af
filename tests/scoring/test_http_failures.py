"""What a run says of a reward server that fails, explains itself, or asks for time; and many requests at once."""

import email.utils
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from json_server import Server
from quiet_server import QuietServer

from drift_pl.core.errors import UserError
from drift_pl.scoring.http import HttpJudge
from drift_pl.scoring.http_client import JsonClient

TOKEN = "ab/cd+efSECRET"
Answer = tuple[int, Any, dict[str, str]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[int, Any], Answer]], Server]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JUDGE_TOKEN", TOKEN)
    servers: list[Server] = []

    def start(answer: Callable[[int, Any], Answer]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def message_of(url: str, **args: Any) -> str:
    judge = HttpJudge(url, **{"attempts": 1, "first_wait_s": 0.01, "deadline_s": 12.0, **args})
    with pytest.raises(UserError) as caught:
        judge(torch.zeros(2, 3, 2, 2), ["a", "b"])
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("status", [200, 401, 503])
@pytest.mark.parametrize(
    "token",
    ["ab\\/cd+efSECRET", "ab/cd\\u002befSECRET", "ab&#47;cd&plus;efSECRET", "ab%2Fcd%2BefSECRET", "ab\\\\/cd+efSECRET"],
)
def test_a_token_with_escapes_is_told_to_nobody(serve: Callable[..., Server], status: int, token: str) -> None:
    """Catches in scoring/http_client.py: the token masked in plain only."""
    server = serve(lambda number, content: (status, f'{{"error": "bad token Bearer {token}"}}'.encode(), {}))
    message = message_of(server.url, token_env="JUDGE_TOKEN")
    assert "SECRET" not in message
    assert "repeats the token (not shown)" in message or "bad token Bearer ***" in message
    assert f"status {status}" in message


@pytest.mark.parametrize("before", [20, 155])
def test_a_token_in_what_is_no_http_is_told_to_nobody(serve: Callable[..., Server], before: int) -> None:
    """The library's error quotes the line. Catches in scoring/http_client.py: its message unmasked, or cut before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def repeat() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(f"{'x' * before} Bearer {TOKEN}\r\n\r\n".encode())

        threading.Thread(target=repeat, daemon=True).start()
        port = listener.getsockname()[1]
        message = message_of(f"http://127.0.0.1:{port}/score", token_env="JUDGE_TOKEN")
    assert "no answer in 1 attempts (RemoteProtocolError: " in message
    assert ("***" in message) == (before == 20)
    assert TOKEN[:4] not in message


def test_more_than_a_hundred_requests_are_under_way(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none fails for waiting. Catches in scoring/http_client.py: the library's limit of 100 connections."""
    monkeypatch.setattr(QuietServer, "request_queue_size", 200)  # by default 5; the system resets what is beyond
    all_here = threading.Event()
    server: Server

    def wait(number: int, content: Any) -> Answer:
        if server.under_way == 120:
            all_here.set()
        all_here.wait(10)
        return 200, {"scores": [0.5]}, {}

    server = serve(wait)
    judge = HttpJudge(server.url, batch_size=1, concurrency=120, attempts=1, deadline_s=30.0)
    assert judge(torch.zeros(120, 3, 2, 2), ["a"] * 120).tolist() == [0.5] * 120
    assert server.most_under_way == 120


def test_a_request_that_waits_for_a_connection_has_not_failed(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches in scoring/http_client.py: a time limit on the wait for the client's own connections."""
    monkeypatch.setattr("httpx2.Limits.__init__", _one_connection)

    def slow(number: int, content: Any) -> Answer:
        time.sleep(0.4)
        return 200, {"scores": [0.5]}, {}

    judge = HttpJudge(serve(slow).url, batch_size=1, concurrency=8, attempts=1, timeout_s=2.4)  # the last waits for 2.8
    assert judge(torch.zeros(8, 3, 2, 2), ["a"] * 8).tolist() == [0.5] * 8


def _one_connection(self: Any, **limits: Any) -> None:
    self.max_connections, self.max_keepalive_connections, self.keepalive_expiry = 1, 1, 5.0


def test_a_server_that_names_a_time_is_asked_then(serve: Callable[..., Server]) -> None:
    """A date in whole seconds. Catches in scoring/http_client.py: a date left to the back-off."""
    times: list[float] = []

    def later(number: int, content: Any) -> Answer:
        times.append(time.time())
        then = email.utils.formatdate(times[0] + 2, usegmt=True)
        return (200, {"scores": [1, 2]}, {}) if number else (503, {}, {"Retry-After": then})

    judge = HttpJudge(serve(later).url, attempts=2, first_wait_s=0.01, deadline_s=12.0)
    assert judge(torch.zeros(2, 3, 2, 2), ["a", "b"]).tolist() == [1, 2]
    assert times[1] >= int(times[0] + 2)


@pytest.mark.parametrize("header", ["1e3", "inf", "1_000", "1000.0", "later"])
def test_a_malformed_wait_is_no_wait(serve: Callable[..., Server], header: str) -> None:
    """Catches in scoring/http_client.py: any number that Python reads."""
    server = serve(
        lambda number, _: (503, {}, {"Retry-After": header}) if number == 0 else (200, {"scores": [1, 2]}, {})
    )
    judge = HttpJudge(server.url, attempts=2, first_wait_s=0.01, deadline_s=12.0)
    assert judge(torch.zeros(2, 3, 2, 2), ["a", "b"]).tolist() == [1, 2]


def test_a_wait_beyond_the_deadline_is_named(serve: Callable[..., Server]) -> None:
    """At once, not when the deadline has passed. Catches in scoring/http_client.py: the server's wait not named."""
    server = serve(lambda number, content: (429, {"error": "quota"}, {"Retry-After": "1000"}))
    begin = time.monotonic()
    message = message_of(server.url, attempts=5)
    assert time.monotonic() - begin < 5
    assert "the server asks to wait 1000 s, longer than rewards.args.deadline_s=12 (" in message
    assert "status 429" in message
    assert "quota" in message
    assert message.endswith("; give rewards.args.deadline_s=1012, or start again later")

    def twice(number: int, content: Any) -> Answer:
        return 429, {}, {"Retry-After": "1" if number == 0 else "20"}

    message = message_of(serve(twice).url, attempts=5, deadline_s=20.0)
    assert "asks to wait 20 s, longer than what is left of rewards.args.deadline_s=20 (" in message


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_that_explains_its_failure_is_quoted(serve: Callable[..., Server], status: int) -> None:
    """Catches in scoring/http_client.py: its answer thrown away; a server that answers is to be started."""
    server = serve(lambda number, content: (status, {"error": f"CUDA out of memory, {TOKEN}"}, {}))
    message = message_of(server.url, attempts=2, token_env="JUDGE_TOKEN")
    assert f"no answer in 2 attempts (status {status}): the server said " in message
    assert """'{"error": "CUDA out of memory, ***"}'""" in message
    assert "start the server" not in message
    assert message.endswith("; see the server's log, or give rewards.args.attempts=4 if it is only busy")
    silent = serve(lambda number, content: (status, b"", {}))
    assert f"(status {status}): the server said nothing; see" in message_of(silent.url)
    slow = serve(lambda number, content: (status, {"error": "CUDA out of memory"}, {}))
    message = message_of(slow.url, attempts=50, first_wait_s=30.0, deadline_s=20.0)
    assert f"rewards.args.deadline_s=20 (last of 1 attempts: status {status}: the server said" in message
    assert "CUDA out of memory" in message


@pytest.mark.parametrize("score", ["Infinity", "-Infinity", "1e400", "1e39", "-3.4028236e38", "4" + "0" * 38])
def test_a_score_that_float32_does_not_hold_is_refused(serve: Callable[..., Server], score: str) -> None:
    """Catches in scoring/http.py: infinity taken for an image that cannot be scored."""
    server = serve(lambda number, content: (200, f'{{"scores": [NaN, {score}]}}'.encode(), {}))
    message = message_of(server.url)
    assert "answered with a number beyond 3.4028e+38, the score '" in message
    assert "expected status 200 and" in message


def test_the_largest_scores_are_scores(serve: Callable[..., Server]) -> None:
    """Catches in scoring/http.py: a bound too low; NaN refused."""
    server = serve(lambda number, content: (200, b'{"scores": [null, NaN, 3.4028234e38, -3.4028234e38]}', {}))
    scores = HttpJudge(server.url)(torch.zeros(4, 3, 2, 2), ["a"] * 4)
    assert scores.isnan().tolist() == [True, True, False, False]
    assert scores[2:].tolist() == pytest.approx([3.4028234e38, -3.4028234e38])


@pytest.mark.parametrize(
    ("rest", "reason"), [("127.0.0.1/" + "x" * 70000, "URL too long"), ("[v1.a]/", "Invalid IPv6")]
)
def test_a_url_that_the_library_alone_refuses_is_one_line(rest: str, reason: str) -> None:
    """Catches in scoring/http_client.py: its error kept for the first request, as a traceback."""
    with pytest.raises(UserError, match=rf"^rewards\.args\.url cannot be used \({reason}.*; give one such as http:"):
        JsonClient(f"http://{rest}", None, 1, 1, 0.0, 1.0, 1.0, "scores")
