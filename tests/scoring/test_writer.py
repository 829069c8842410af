"""A language model that writes expansions, against a server of the standard library in a thread.

Catches in scoring/writer.py: answers given to other prompts; headings and bullets among the texts; an empty answer
taken.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from json_server import Server

from drift_pl.core.errors import UserError
from drift_pl.scoring.writer import LONGEST, ChatWriter, texts_of

TOKEN = "s3cret-t0ken-of-the-writer"
QUICK: dict[str, Any] = {"first_wait_s": 0.01, "deadline_s": 20.0}
PROMPTS = [f"prompt {number}" for number in range(5)]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers: list[Server] = []

    def start(answer: Callable[[int, Any], tuple[int, Any, dict[str, str]]]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def said(content: str | None) -> tuple[int, Any, dict[str, str]]:
    return 200, {"choices": [{"message": {"content": content}}]}, {}


def asked(request: Any) -> str:
    return request["messages"][0]["content"]


def writer(server: Server, **options: Any) -> ChatWriter:
    return ChatWriter(server.url.replace("/score", "/v1"), "model-7", **{**QUICK, **options})


def test_each_prompt_gets_the_lines_of_its_own_answer(serve: Callable[..., Server]) -> None:
    def answer(number: int, request: Any) -> tuple[int, Any, dict[str, str]]:
        return said(f"{asked(request)[-8:]}, by day\n{asked(request)[-8:]}, at night")

    server = serve(answer)
    ask = writer(server, template="{count} scenes with {prompt}", extra={"seed": 3}, concurrency=3, temperature=0.5)
    assert ask(PROMPTS, 2) == [[f"{prompt}, by day", f"{prompt}, at night"] for prompt in PROMPTS]
    assert sorted(map(asked, server.requests)) == [f"2 scenes with {prompt}" for prompt in PROMPTS]
    assert set(server.paths) == {"/v1/chat/completions"}
    for request in server.requests:
        assert (request["model"], request["seed"], request["temperature"]) == ("model-7", 3, 0.5)
        assert server.most_under_way <= 3


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        ("a dog\na red dog", ["a dog", "a red dog"]),
        (
            "1. a dog\n2) a red dog\n(3) a cat\n- an ox\n* a cow\n\u2022 a hen",
            "a dog,a red dog,a cat,an ox,a cow,a hen",
        ),
        ('Here are two scenes:\n\n"a dog, at night"\r\n\u201ca cat\u201d\n', ["a dog, at night", "a cat"]),
        ("```\na dog\n```", ["a dog"]),
        ("<think>a thought\nof two lines</think>\na dog", ["a dog"]),
        ("3 dogs\n1990s style", ["3 dogs", "1990s style"]),
        (f"a dog\n{'x' * (LONGEST + 1)}\nhalf \ud83d\n\u200b", ["a dog"]),
        ("", []),
    ],
)
def test_lines_that_are_texts(answer: str, texts: list[str] | str) -> None:
    assert texts_of(answer) == (texts.split(",") if isinstance(texts, str) else texts)


def test_a_server_that_recovers_is_asked_again_and_nothing_is_lost(serve: Callable[..., Server]) -> None:
    server = serve(lambda number, request: said("a dog") if number else (503, {}, {}))
    assert writer(server)(PROMPTS, 1) == [["a dog"]] * 5
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (said(""), "no text of 1 to 400 characters for 'prompt 0'"),
        (said(None), "no text of 1 to 400 characters for 'prompt 0'"),
        ((200, {"texts": []}, {}), "expected status 200 and"),
        ((404, {"error": f"no model-7 for {TOKEN}"}, {}), "status 404"),
        ((500, {}, {}), "no answer in 2 attempts (status 500)"),
    ],
)
def test_a_failure_is_one_line_that_names_the_setting_and_no_token(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, caplog: Any, answer: Any, says: str
) -> None:
    monkeypatch.setenv("WRITER_TOKEN", TOKEN)
    server = serve(lambda number, request: answer)
    with caplog.at_level(logging.DEBUG), pytest.raises(UserError) as error:
        writer(server, attempts=2, token_env="WRITER_TOKEN")(PROMPTS[:1], 2)
    message = str(error.value)
    assert message.startswith("incentive.prompting.writers.args.url=http://127.0.0.1:")
    assert says in message
    assert "\n" not in message
    assert server.headers[0]["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in message + caplog.text


def test_a_silent_server_ends_at_the_deadline(serve: Callable[..., Server]) -> None:
    leave = threading.Event()
    server = serve(lambda number, request: said("a dog") if leave.wait(5) else said("a dog"))
    with pytest.raises(UserError, match=r"writers\.args\.deadline_s=0\.3|no answer in 1 attempts"):
        writer(server, deadline_s=0.3, attempts=1)(PROMPTS[:1], 1)
    leave.set()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"template": "scenes with {prompt}"}, "template lacks {count}"),
        ({"template": "{count} scenes"}, "template lacks {prompt}"),
        ({"url": "nothing"}, "incentive.prompting.writers.args.url is not a url"),
        ({"url": "http://me:secret@host/v1"}, "pass a token by incentive.prompting.writers.args.token_env="),
        ({"token_env": "NOT_SET_ANYWHERE"}, "incentive.prompting.writers.args.token_env=NOT_SET_ANYWHERE"),
        ({"timeout_s": 0}, "incentive.prompting.writers.args.timeout_s=0 must be positive"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as error:
        ChatWriter(**{"url": "http://127.0.0.1:9/v1", "model": "m", **options})
    assert says in str(error.value)
    assert "secret" not in str(error.value)
