"""What is told of a server's answer, and the header Retry-After."""

import datetime
import email.utils
import html
import json
import time
import urllib.parse

import pytest

from drift_pl.scoring.http_answers import LONGEST_ASKED_S, seconds_asked, start_of

TOKEN = "ab/cd+ef\"'<SECRET"


def in_hex(text: str) -> str:
    return "".join(f"\\u{ord(letter):04X}" for letter in text)


@pytest.mark.parametrize(
    "written",
    [
        TOKEN.replace("/", "\\/"),
        json.dumps(TOKEN),
        json.dumps(json.dumps(TOKEN)),
        repr(TOKEN),
        TOKEN.replace("+", "\\u002b"),
        TOKEN.replace("+", "\\x2B"),
        in_hex(TOKEN),
        json.dumps({"page": in_hex(TOKEN)}),
        html.escape(TOKEN),
        TOKEN.replace("/", "&#47;").replace("+", "&#x2b;"),
        urllib.parse.quote(TOKEN, safe=""),
        urllib.parse.quote(urllib.parse.quote(TOKEN)),
        json.dumps({"page": html.escape(urllib.parse.quote(TOKEN))}).replace("&", "\\u0026"),
        "\0".join(TOKEN),
        "\n".join(TOKEN),
    ],
)
def test_nothing_is_shown_of_what_holds_the_token_with_escapes(written: str) -> None:
    """Also where its end is cut off, and in a long text.

    Catches in scoring/http_answers.py: one kind of escapes left out; escapes within escapes; only what is shown looked
    at; zeros of UTF-16.
    """
    for text in (f"bad token Bearer {written}", "x" * 110 + written, f"{written} {'x' * 10**6}"):
        assert start_of(text, TOKEN) == "a text that repeats the token (not shown)"


@pytest.mark.parametrize("token", ["abc", "a%41b", "a&lt;b", "a\\u0041b", "a  b", "EMPTY"])
def test_a_token_in_plain_is_masked(token: str) -> None:
    """Also one that looks like an escape. Catches in scoring/http_answers.py: looked for after unescaping only."""
    shown = start_of(f"no such token: {token}, said {token * 30}", token)
    assert token not in shown
    assert "***" in shown or "not shown" in shown


def test_other_texts_are_shown_on_one_line() -> None:
    """Catches in scoring/http_answers.py: everything hidden; the text unescaped; its length."""
    assert start_of('{"a": "b\\/c &amp; \\u002b"}\n\n\td ', TOKEN) == """'{"a": "b\\\\/c &amp; \\\\u002b"} d'"""
    assert start_of("x" * 10**6, None) == repr("x" * 120)
    assert start_of("", TOKEN) == "''"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("0", 0), ("7", 7), (" 120 ", 120), ("9" * 400, LONGEST_ASKED_S)),
        *(
            (None, 0),
            ("", 0),
            ("1e3", 0),
            ("inf", 0),
            ("nan", 0),
            ("1_0", 0),
            ("-5", 0),
            ("+5", 0),
            ("1.5", 0),
            ("٣", 0),
        ),
        *(("soon", 0), ("Fri, 27 Nov 99999 23:00:00 GMT", 0), (f"Fri, 27 Nov 2026 23:00:00 +{'9' * 20}", 0)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_ASKED_S),
    ],
)
def test_retry_after_is_digits_or_a_date(header: str | None, seconds: float) -> None:
    """Catches in scoring/http_answers.py: any number that Python reads; a past date below zero; the parser's errors."""
    assert seconds_asked(header) == seconds


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"])
def test_a_date_of_each_form_is_the_time_until_then(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110, section 5.6.7. Catches in scoring/http_answers.py: a date without a zone taken for local time."""
    monkeypatch.setenv("TZ", "UTC-9")
    time.tzset()
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    seconds = seconds_asked(then.strftime(form))
    monkeypatch.undo()
    time.tzset()
    assert 80 <= seconds <= 90
    assert 80 <= seconds_asked(email.utils.format_datetime(then, usegmt=True)) <= 90
