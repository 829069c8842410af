"""Rewards over HTTP, against servers of the standard library in a thread."""

import base64
import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from json_server import Server
from PIL import Image
from torch import Tensor

from drift_pl.core.errors import UserError
from drift_pl.scoring import example_server
from drift_pl.scoring.http import SCORES, ChatJudge, HttpJudge, number_after, only_number
from drift_pl.scoring.http_client import JsonClient

TOKEN = "s3cret-t0ken-of-the-test"
QUICK: dict[str, Any] = {"first_wait_s": 0.01, "deadline_s": 20.0}


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answer: Callable[[int, Any], tuple[int, Any, dict[str, str]]]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def decoded(text: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    assert image.format == "PNG"
    return image


def top_left_red(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
    """The red value of each image's first pixel: it identifies the image."""
    return 200, {"scores": [decoded(text).getpixel((0, 0))[0] for text in content["images"]]}, {}


def numbered_images(count: int) -> Tensor:
    """Image k has red value k in its first pixel, and 0.5 elsewhere."""
    images = torch.full((count, 3, 4, 6), 0.5)
    images[:, 0, 0, 0] = torch.arange(count) / 255
    return images


def prompts(count: int) -> list[str]:
    return [f"prompt {number}" for number in range(count)]


def message_of(judge: Any, count: int = 2) -> str:
    with pytest.raises(UserError) as caught:
        judge(numbered_images(count), prompts(count))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("rewards.args.url=http://127.0.0.1:")
    return message


def test_scores_come_back_in_order_from_requests_that_overtake_each_other(serve: Callable[..., Server]) -> None:
    def slow_first(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
        time.sleep(0.2 if content["prompts"][0] == "prompt 0" else 0.0)
        return top_left_red(number, content)

    server = serve(slow_first)
    scores = HttpJudge(server.url, batch_size=3, normaliser=2.0, **QUICK)(numbered_images(10), prompts(10))
    assert scores.tolist() == [number / 2 for number in range(10)]
    assert scores.dtype == torch.float32
    assert sorted(len(request["images"]) for request in server.requests) == [1, 3, 3, 3]
    by_prompt = {
        prompt: image for r in server.requests for prompt, image in zip(r["prompts"], r["images"], strict=True)
    }
    assert [decoded(by_prompt[text]).getpixel((0, 0))[0] for text in prompts(10)] == list(range(10))
    assert decoded(by_prompt["prompt 0"]).size == (6, 4)
    assert set(server.requests[0]) == {"images", "prompts"}


def test_images_are_sent_as_8_bits_without_loss(serve: Callable[..., Server], generator: torch.Generator) -> None:
    pixels = torch.randint(0, 256, (1, 3, 5, 7), generator=generator).byte()
    server = serve(top_left_red)
    HttpJudge(server.url, **QUICK)(pixels.float() / 255, ["a"])
    HttpJudge(server.url, **QUICK)((pixels.float() + 0.4) / 255, ["a"])  # rounded, not cut off
    HttpJudge(server.url, **QUICK)((pixels.float() - 0.4) / 255, ["a"])
    for request in server.requests:
        sent = torch.tensor(list(decoded(request["images"][0]).tobytes()), dtype=torch.uint8).reshape(5, 7, 3)
        assert torch.equal(sent.permute(2, 0, 1), pixels[0])


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (3, 3)])
def test_no_more_requests_are_under_way_than_asked(serve: Callable[..., Server], concurrency: int, most: int) -> None:
    together = threading.Barrier(most)

    def slow(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
        together.wait(10)
        time.sleep(0.1)  # one more would be here by then
        return top_left_red(number, content)

    server = serve(slow)
    HttpJudge(server.url, batch_size=1, concurrency=concurrency, **QUICK)(numbered_images(6), prompts(6))
    assert server.most_under_way == most


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(serve: Callable[..., Server], status: int) -> None:
    def third_time(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
        return top_left_red(number, content) if number == 2 else (status, {}, {})

    server = serve(third_time)
    assert HttpJudge(server.url, attempts=3, **QUICK)(numbered_images(2), prompts(2)).tolist() == [0, 1]
    assert len(server.requests) == 3
    assert server.requests[0] == server.requests[2]
    failing = serve(lambda number, content: (status, {}, {}))
    message = message_of(HttpJudge(failing.url, attempts=3, **QUICK))
    assert len(failing.requests) == 3
    assert f"no answer in 3 attempts (status {status})" in message


def test_waits_double_or_are_what_the_server_asks(serve: Callable[..., Server]) -> None:
    times: list[float] = []

    def note(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
        times.append(time.monotonic())
        return 503, {}, {"Retry-After": "1"} if number == 2 else {}

    message_of(HttpJudge(serve(note).url, attempts=4, first_wait_s=0.05, deadline_s=20.0))
    waits = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert len(waits) == 3
    assert all(wait >= least for wait, least in zip(waits, (0.05, 0.1, 1), strict=True))


@pytest.mark.parametrize("status", [400, 401, 404, 307])
def test_what_will_not_pass_is_not_tried_again(serve: Callable[..., Server], status: int) -> None:
    server = serve(lambda number, content: (status, {"error": "no\nsuch thing"}, {"Location": "/elsewhere"}))
    message = message_of(HttpJudge(server.url, batch_size=1, concurrency=1, **QUICK), count=3)
    assert len(server.requests) == 1
    assert f"status {status}" in message
    assert "such thing" in message
    assert '{"scores": [one number or null for each image]}' in message


def test_a_refused_connection_is_tried_again_and_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = message_of(HttpJudge(f"http://127.0.0.1:{port}/score?key=abc", attempts=2, **QUICK))
    assert "no answer in 2 attempts (ConnectError" in message
    assert "key" not in message


@pytest.mark.parametrize("attempts", [1, 100])
def test_the_deadline_holds_for_a_server_that_never_answers(serve: Callable[..., Server], attempts: int) -> None:
    over = threading.Event()

    def hang(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
        over.wait(20)
        return top_left_red(number, content)

    judge = HttpJudge(serve(hang).url, attempts=attempts, deadline_s=2.0, batch_size=1, concurrency=2)
    start = time.monotonic()
    message = message_of(judge, count=5)
    assert time.monotonic() - start < 10
    over.set()
    assert "rewards.args.deadline_s=2" in message or "no answer in 1 attempts (ReadTimeout" in message


def test_the_deadline_holds_for_a_server_that_always_fails_and_for_one_that_asks_to_wait(
    serve: Callable[..., Server],
) -> None:
    for headers in ({}, {"Retry-After": "3600"}):
        server = serve(lambda number, content, headers=headers: (503, {}, headers))
        start = time.monotonic()
        message = message_of(HttpJudge(server.url, attempts=1000, first_wait_s=0.01, deadline_s=0.5))
        assert time.monotonic() - start < 10
        assert "rewards.args.deadline_s=0.5" in message
        # whichever noticed the deadline first; a last attempt may have begun just before it
        assert any(words in message for words in ("status 503", "still pending", "no time left", "Timeout"))


def test_the_deadline_holds_for_a_server_that_sends_a_little_now_and_then() -> None:
    """Each byte counts as activity, so no read timeout ends this."""
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not over.wait(0.1):
                connection.sendall(b" ")
        except OSError:
            pass
        connection.close()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        judge = HttpJudge(f"http://127.0.0.1:{listener.getsockname()[1]}/score", attempts=1, deadline_s=2.0)
        threading.Timer(20, over.set).start()
        start = time.monotonic()
        message = message_of(judge)
        assert time.monotonic() - start < 10
        over.set()
    assert "rewards.args.deadline_s=2" in message


class SlowToClose(httpx2.Client):
    """Gives requests that wait for their next attempt enough time to send it."""

    def __exit__(self, *error: Any) -> None:
        time.sleep(0.5)
        super().__exit__(*error)


def test_nothing_is_sent_after_a_failure(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that waits for its next attempt is not sent again once another fails permanently.

    Catches in scoring/http_client.py: a request whose wait is ended by another's failure is sent once more.
    """
    monkeypatch.setattr(httpx2, "Client", SlowToClose)
    all_here = threading.Event()

    def answer(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
        if number == 2:
            all_here.set()
        all_here.wait(10)
        if content["prompts"] != ["prompt 1"]:
            return 503, {}, {}
        time.sleep(0.2)  # the others are waiting by now
        return 401, {}, {}

    server = serve(answer)
    judge = HttpJudge(server.url, batch_size=1, concurrency=3, attempts=9, first_wait_s=5.0)
    assert "status 401" in message_of(judge, count=3)  # not that of a request cancelled because of it
    time.sleep(0.8)
    assert len(server.requests) == 3


def test_a_failure_stops_the_other_requests(serve: Callable[..., Server]) -> None:
    """One request fails permanently; the others, which would be retried for minutes, are cancelled at once."""

    def answer(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
        return (401 if content["prompts"] == ["prompt 3"] else 503), {}, {}

    judge = HttpJudge(serve(answer).url, batch_size=1, concurrency=4, attempts=50, first_wait_s=30.0)
    start = time.monotonic()
    assert "status 401" in message_of(judge, count=4)
    assert time.monotonic() - start < 10


def test_the_token_is_sent_and_told_to_nobody_else(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that echoes the request in every kind of failure."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("JUDGE_TOKEN", f" {TOKEN}\n")

    def repeat(status: int, body: Callable[[str], Any]) -> Callable[[int, Any], tuple[int, Any, dict[str, str]]]:
        return lambda number, content: (status, body(TOKEN), {})

    bodies = (
        (401, lambda token: f"{'x' * 110}{token}".encode()),  # cut in the middle of the token
        (500, lambda token: {"error": token}),
        (200, lambda token: token.encode()),
        (200, lambda token: {"scores": token}),
        (200, lambda token: {"scores": [token, 1]}),
        (200, lambda token: {token: []}),
        (200, lambda token: {"x" * 100: token}),
        (200, lambda token: {"scores": ["x" * 110 + token, 1]}),
    )
    for status, body in bodies:
        server = serve(repeat(status, body))
        judge = HttpJudge(server.url, token_env="JUDGE_TOKEN", attempts=1, **QUICK)
        message = message_of(judge)
        assert TOKEN[:6] not in message
        assert server.headers[0]["authorization"] == f"Bearer {TOKEN}"
        assert TOKEN not in str(vars(judge)) + str(vars(judge.client))
    assert TOKEN not in caplog.text
    server = serve(top_left_red)
    HttpJudge(server.url, **QUICK)(numbered_images(1), ["a"])
    assert "authorization" not in server.headers[0]


def test_a_token_that_is_not_set_is_missed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_TOKEN", raising=False)
    with pytest.raises(UserError, match="token_env=JUDGE_TOKEN: this environment variable is not set"):
        HttpJudge("http://127.0.0.1:1/score", token_env="JUDGE_TOKEN")
    monkeypatch.setenv("JUDGE_TOKEN", "two\nlines")
    with pytest.raises(UserError, match="not one line") as caught:
        HttpJudge("http://127.0.0.1:1/score", token_env="JUDGE_TOKEN")
    assert "two" not in str(caught.value)


def test_null_and_nan_say_that_an_image_has_no_score(serve: Callable[..., Server]) -> None:
    server = serve(lambda number, content: (200, b'{"scores": [1, null, NaN, 2.5]}', {}))
    scores = HttpJudge(server.url, **QUICK)(numbered_images(4), prompts(4))
    assert scores.isnan().tolist() == [False, True, True, False]
    assert scores[[0, 3]].tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>busy</html>", "no JSON: '<html>busy</html>'"),
        (b"", "no JSON: ''"),
        ("x" * 10**6, "xxx"),
        ([1, 2], "[1, 2]"),
        ({"score": [1, 2]}, "{'score': [1, 2]}"),
        ({"scores": 3}, "{'scores': 3}"),
        ({"scores": [1]}, "1 scores for 2 images"),
        ({"scores": [1, 2, 3]}, "3 scores for 2 images"),
        ({"scores": [1, "2"]}, "the score '2'"),
        ({"scores": [1, True]}, "the score 'True'"),
        ({"scores": [1, [2]]}, "the score '[2]'"),
        ({"scores": [1, 10**400]}, "the score '1000"),
    ],
)
def test_nonsense_is_refused_with_what_was_expected(serve: Callable[..., Server], answer: Any, said: str) -> None:
    server = serve(lambda number, content: (200, answer, {}))
    message = message_of(HttpJudge(server.url, **QUICK))
    assert said in message
    assert len(message) < 400
    assert "expected" in message
    assert len(server.requests) == 1


def test_a_damaged_answer_is_asked_for_again_and_named(serve: Callable[..., Server]) -> None:
    """Catches in scoring/http_client.py: what is no error of the transport taken for a deadline that has passed."""
    server = serve(lambda number, content: (200, {"scores": [1, 2]}, {"content-encoding": "gzip"}))
    message = message_of(HttpJudge(server.url, attempts=2, **QUICK))
    assert "no answer in 2 attempts (DecodingError" in message
    assert len(server.requests) == 2


def test_what_breaks_a_request_here_is_not_blamed_on_the_deadline() -> None:
    """Catches in scoring/http_client.py: its error lost, and more time asked for."""
    client = JsonClient("http://127.0.0.1:1/", None, 2, 2, 0.01, 5.0, 20.0, "scores")
    with pytest.raises(ZeroDivisionError):
        client.post_all(lambda part: 1 / part, [0, 0, 0])


def test_settings_that_cannot_work_are_refused() -> None:
    for url in ("127.0.0.1:8001", "ftp://host/x", "http:///score", ""):
        with pytest.raises(UserError, match=r"rewards\.args\.url is not a url"):
            HttpJudge(url)
    with pytest.raises(UserError, match="token_env") as caught:
        HttpJudge(f"http://me:{TOKEN}@127.0.0.1/score")
    assert TOKEN not in str(caught.value)
    for setting in ({"concurrency": 0}, {"attempts": 0}, {"timeout_s": 0.0}, {"deadline_s": -1.0}):
        with pytest.raises(UserError, match=next(iter(setting))):
            HttpJudge("http://127.0.0.1:1/score", **setting)
    with pytest.raises(UserError, match="highest"):
        ChatJudge("http://127.0.0.1:1", "m", lowest=5, highest=5)
    with pytest.raises(UserError, match="template"):
        ChatJudge("http://127.0.0.1:1", "m", template="How good?")


def chat_answer(text: str | None) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/chat/completions"])
def test_a_chat_model_is_asked_once_per_image(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("JUDGE_TOKEN", TOKEN)

    def see(number: int, content: Any) -> tuple[int, Any, dict[str, str]]:
        url = content["messages"][0]["content"][0]["image_url"]["url"]
        assert url.startswith("data:image/png;base64,")
        return 200, chat_answer(f"{decoded(url.split(',')[1]).getpixel((0, 0))[0]}"), {}

    server = serve(see)
    judge = ChatJudge(
        server.url.replace("/score", path), "qwen", extra={"seed": 3}, token_env="JUDGE_TOKEN", lowest=1, **QUICK
    )
    names = ["a cat {lowest}", "sky", "dog", "tree", "x"]
    scores = judge(numbered_images(5), names)
    assert scores[1:].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert scores[0].isnan()  # 0 is out of 1 to 10
    assert set(server.paths) == {"/v1/chat/completions"}
    assert server.headers[0]["authorization"] == f"Bearer {TOKEN}"
    assert len(server.requests) == 5
    asked = {request["messages"][0]["content"][1]["text"] for request in server.requests}
    assert any('"a cat {lowest}"' in text and "from 1 (worst) to 10 (best)" in text for text in asked)
    request = server.requests[0]
    assert (request["model"], request["seed"], request["temperature"]) == ("qwen", 3, 0)


def test_a_chat_model_that_evades_leaves_its_image_unscored(serve: Callable[..., Server]) -> None:
    said = ["7/10", "I cannot judge this.", "8 or 9", None, "11"]
    server = serve(lambda number, content: (200, chat_answer(said[number]), {}))
    scores = ChatJudge(server.url, "m", concurrency=1, **QUICK)(numbered_images(5), prompts(5))
    assert scores[0] == pytest.approx(0.7)
    assert scores[1:].isnan().all()


@pytest.mark.parametrize("answer", [{"choices": []}, {"error": "x"}, [], {"choices": [{"message": {"content": 3}}]}])
def test_an_answer_that_is_no_chat_is_refused(serve: Callable[..., Server], answer: Any) -> None:
    message = message_of(ChatJudge(serve(lambda number, content: (200, answer, {})).url, "m", **QUICK))
    assert '{"choices": [{"message": {"content": "a number"}}]}' in message


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("7", 7.0), (" 7.5\n", 7.5), ("**8**", 8.0), ("Score: 9.", 9.0), ("7/10", 7.0), ("6.5 / 10", 6.5)),
        *(("-2", -2.0), ('{"score": 4}', 4.0), ("<think>first 3, then 5</think> 6", 6.0), ("I give it a 10!", 10.0)),
    ],
)
def test_the_number_is_read(text: str, number: float) -> None:
    assert only_number(text) == number


@pytest.mark.parametrize("text", ["", "none", "3 or 4", "3-4", "1e3", "v2", "8.5x", "<think>it is 7", "1.2.3"])
def test_what_is_not_one_number_is_none(text: str) -> None:
    assert only_number(text) != only_number(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("dog (object): 1\nred (attribute): 0\nFinal Score: 3.5", 3.5),
        ("**Final Score:** 4", 4),
        ("A Final Score: 2 would be harsh.\nFinal Score: 5.", 5),
        ("<think>Final Score: 1</think>Final Score: 2\nthe end", 2),
        ("Final Score: [4]", None),
        ("Final Score: high, 4 of 5", None),
        ("Final Score: 4.1.2", None),
        ("4", None),
        ("Final Score:", None),
    ],
)
def test_the_number_after_the_words_is_read(text: str, number: float | None) -> None:
    """Catches in scoring/http.py: the first occurrence; any number of the rest; a thought read."""
    found = number_after("Final Score:", text)
    assert found == number if number is not None else found != found


def test_a_model_that_explains_itself_is_scored_by_its_last_line(serve: Callable[..., Server]) -> None:
    """UnifiedReward's shape of answer: findings, then the score; its second version has one score per aspect.

    Catches in scoring/http.py: numbers of the findings; a mean where one score is missing; out of range clamped.
    """
    said = [
        "dog (animate): 1\nboth eyes (attribute): 0\n\nFinal Score: 3.0",
        "Final Score: 6",
        "Alignment: 4\nStyle: 3\nFinal Score: 2",
    ]
    server = serve(lambda number, content: (200, chat_answer(said[number]), {}))
    scale = {"lowest": 1, "highest": 5, "normaliser": 5, "concurrency": 1}
    scores = ChatJudge(server.url, "m", after=["Final Score:"], **scale, **QUICK)(numbered_images(3), prompts(3))
    assert scores.nan_to_num(-1).tolist() == pytest.approx([0.6, -1, 0.4])
    server = serve(lambda number, content: (200, chat_answer(said[2 * number]), {}))
    judge = ChatJudge(server.url, "m", after=["Alignment:", "Style:"], **scale, **QUICK)
    assert judge(numbered_images(2), prompts(2)).nan_to_num(-1).tolist() == pytest.approx([-1, 0.7])


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("JUDGE_TOKEN", TOKEN)
    server = example_server.serve("127.0.0.1", 0, TOKEN)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/score"
    server.shutdown()
    server.server_close()


def test_the_example_server_scores_by_brightness(example: str, generator: torch.Generator) -> None:
    pixels = torch.randint(0, 256, (5, 3, 8, 8), generator=generator).float() / 255
    pixels *= torch.linspace(0.2, 1, 5)[:, None, None, None]
    pixels = (pixels * 255).round() / 255
    scores = HttpJudge(example, token_env="JUDGE_TOKEN", batch_size=2, **QUICK)(pixels, prompts(5))
    torch.testing.assert_close(scores, pixels.mean((1, 2, 3)), rtol=0, atol=1e-6)


def test_the_example_server_refuses_strangers_and_nonsense(example: str) -> None:
    import httpx2

    assert "status 401" in message_of(HttpJudge(example, **QUICK))
    authorised = {"Authorization": f"Bearer {TOKEN}"}
    for body in (b"x", b"[]", b"{}", b'{"images": ["eA=="], "prompts": ["a"]}', b'{"images": [], "prompts": ["a"]}'):
        answer = httpx2.post(example, content=body, headers=authorised)
        assert answer.status_code == 400, body
        assert "error" in answer.json()
    assert httpx2.post(example, content=b"", headers=authorised).status_code == 413


def test_a_server_is_given_what_lists_say_of_its_images(tmp_path: Path) -> None:
    """Catches in scoring/example_server.py: metadata not passed on; an error of the scorer ends the thread."""

    def wanted(images: Any, prompts: Any, metadata: Any) -> list[float | None]:
        if metadata[0] is None:
            raise ValueError("no count")
        return [each and each["count"] for each in metadata]

    server = example_server.serve("127.0.0.1", 0, scores=wanted)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url, listed = f"http://127.0.0.1:{server.server_address[1]}/", tmp_path / "prompts.jsonl"
    listed.write_text('{"prompt": "two cats", "count": 2}\n')
    judge = HttpJudge(url, metadata=[str(listed)], **QUICK)
    assert judge(torch.zeros(2, 3, 2, 2), ["two cats", "a cow"]).nan_to_num(-1).tolist() == [2, -1]
    assert "status 400" in message_of(HttpJudge(url, **QUICK))
    server.shutdown()
    server.server_close()


def test_the_page_shows_what_the_judge_sends() -> None:
    page = (Path(__file__).parents[2] / "docs" / "http_judge.md").read_text()
    for word in ('"images"', '"prompts"', '"scores"', "drift_pl.scoring.example_server", "token_env", "deadline_s"):
        assert word in page


def test_what_a_list_says_about_a_prompt_is_sent_with_its_images(serve: Callable[..., Server], tmp_path: Path) -> None:
    """In the order of the images, null for a prompt in none of the lists; absent unless lists are given.

    Catches in scoring/http.py: metadata in the list's order, not the images'.
    """
    server = serve(lambda _, asked: (200, {"scores": [0] * len(asked["prompts"])}, {}))
    listed = tmp_path / "prompts.jsonl"
    listed.write_text('{"prompt": "two cats", "count": 2}\n{"prompt": "a dog", "count": 1, "tag": ["x"]}\n')
    prompts = ["a dog", "a cow", "two cats", "a dog"]
    HttpJudge(server.url, batch_size=4, metadata=[str(listed)], **QUICK)(torch.zeros(4, 3, 2, 2), prompts)
    HttpJudge(server.url, batch_size=4, **QUICK)(torch.zeros(4, 3, 2, 2), prompts)
    dog = {"count": 1, "tag": ["x"]}
    assert server.requests[0]["metadata"] == [dog, None, {"count": 2}, dog]
    assert set(server.requests[1]) == {"images", "prompts"}


def test_an_endless_answer_is_cut(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches in scoring/http_client.py: an answer that is read whole, however large it is."""
    monkeypatch.setattr("drift_pl.scoring.http_client.LARGEST_ANSWER", 2**20)
    server = serve(lambda number, content: (200, b" " * 2**22, {}))
    message = message_of(HttpJudge(server.url, attempts=1, **QUICK))
    assert message.endswith("answered with more than 1 MiB; expected status 200 and " + SCORES)
